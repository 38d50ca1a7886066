"""Placement: the worker that each task runs on, and the tasks that wait for one."""
