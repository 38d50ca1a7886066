"""Event loops, and what runs on them: in threads of their own, again and again, watched for being held up."""
