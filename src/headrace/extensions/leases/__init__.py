"""Leases: claims of holders who may die; the scheduler ends them some time after the holder's connection has gone."""
