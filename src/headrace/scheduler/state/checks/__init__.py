"""Invariants that are checked after every event, and the story of a task."""
