"""What must hold after every event, and what happened to a task."""
