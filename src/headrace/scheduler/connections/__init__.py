"""Connections to the scheduler: clients and workers that register, break off, come back, die or leave."""
