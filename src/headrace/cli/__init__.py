"""The command line: `headrace scheduler`, `headrace worker` and others, and their names in dask."""
