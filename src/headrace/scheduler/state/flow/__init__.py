"""The way of tasks: graphs in, reports of workers, interest of clients, workers that come and go."""
