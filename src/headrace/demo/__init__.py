"""`python -m headrace.demo`: reads every Python file of the running interpreter on a local cluster.

A user's program: it touches nothing but the public API, and shows it at work on real input.
"""
