"""The active memory manager: every so often it drops copies of results that are too many, and makes those that lack."""
