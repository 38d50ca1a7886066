"""Comms over WebSockets: `ws` and `wss`, which pass proxies of the web. Importing the modules here imports aiohttp."""
