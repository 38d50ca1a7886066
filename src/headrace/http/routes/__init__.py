"""What schedulers, workers and nannies answer by HTTP; one module for each documented module of routes."""
