"""The opening of connections: each end admits the other before it listens to it."""
