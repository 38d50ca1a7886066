"""The scheduler's records of tasks, workers and clients, without decisions."""
