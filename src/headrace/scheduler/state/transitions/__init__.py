"""How tasks move between states: `table` is the literal table, `engine` runs it, the rest are its functions."""
