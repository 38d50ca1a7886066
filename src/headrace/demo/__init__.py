"""The demo, `python -m headrace.demo`: reads every Python file of the running interpreter on a local cluster.

The demo is a user's program: it uses only the public API, and shows it at work on real input.
"""
