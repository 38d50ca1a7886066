"""Small help around tests: things to submit, to wait for and to read."""
