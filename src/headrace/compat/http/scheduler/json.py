"""`distributed.http.scheduler.json`."""

from headrace.http.routes.scheduler_json import CountsHandler as CountsJSON
from headrace.http.routes.scheduler_json import IdentityHandler as IdentityJSON
from headrace.http.routes.scheduler_json import JsonIndexHandler as IndexJSON
from headrace.http.routes.scheduler_json import routes

__all__ = ["CountsJSON", "IdentityJSON", "IndexJSON", "routes"]
