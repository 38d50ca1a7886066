"""Moves of tasks between states: `table` is the literal table, `engine` runs it, the rest are its functions."""
