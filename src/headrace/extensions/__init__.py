"""Features beside the core, one folder each: `scheduler.py` is loaded into the scheduler by name."""
