"""HTTP for schedulers, workers and nannies: health, metrics, facts as JSON and plain pages, and what users add.

`http_server` owns the sockets, `request_dispatch` finds the handler of a request, `route_tables` knows the modules of
routes, `request_handler` is the base of handlers, and `routes` has headrace's own. `aiohttp` reads and writes HTTP;
nothing imports it before the first connection.
"""
