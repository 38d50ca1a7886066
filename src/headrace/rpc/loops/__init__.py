"""Event loops: in threads of their own, with periodic callbacks, signals, and a watch for callbacks that block them."""
