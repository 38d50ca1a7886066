"""`/sitemap.json`: the paths that the server answers."""

from __future__ import annotations

from headrace.http.request_handler import RequestHandler, Routes


class SiteMapHandler(RequestHandler):
    """Lists the patterns of all routes."""

    def get(self) -> None:
        """Answer `{"paths": [...]}`, in alphabetical order."""
        paths = self.server.http_server.paths
        self.write_json({"paths": paths})


routes: Routes = [(r"sitemap\.json", SiteMapHandler, {})]
