"""Leases: what is held by somebody who may die, and is given up for him a while after his connection has gone."""
