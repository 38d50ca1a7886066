"""`distributed.http.statics`."""

from headrace.http.routes.static_files import routes

__all__ = ["routes"]
