"""The peer's public paths: `distributed.X.Y` is `headrace.compat.X.Y` if there is one, else `headrace.X.Y`.

Each module, or package, here is one public path. It names what is ours under another path, and holds what exists only
for users of that path; a path with several subjects is a package with a file for each. Nothing outside of this package
imports it, except by name: the facade `headrace` and `headrace.alias`, which answers for `distributed`.
"""
