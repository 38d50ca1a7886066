"""Requests that the scheduler answers, by topic; each file is a mixin of `Scheduler` and lists its operations."""
