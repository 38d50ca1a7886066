"""Where tasks run, and which wait for what."""
