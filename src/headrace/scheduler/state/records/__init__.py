"""What the scheduler knows of each task, worker and client: records without decisions."""
