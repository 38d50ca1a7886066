"""Running a task: its function and arguments, the thread that it runs in, and what stops it."""
