"""`distributed.http.scheduler.missing_bokeh`: here the page that people see first, which needs no bokeh."""

from headrace.http.routes.front_page import OverviewPage as MissingBokeh
from headrace.http.routes.front_page import routes

__all__ = ["MissingBokeh", "routes"]
