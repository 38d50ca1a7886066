"""The command line: `headrace scheduler`, `headrace worker`, and the names that dask's users type."""
