"""Helpers that other libraries import from public paths (`distributed.utils` and others). Nothing here needs them."""
