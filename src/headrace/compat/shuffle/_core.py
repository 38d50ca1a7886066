"""Imported by dask to shuffle a dataframe from peer to peer: says that this does not exist, and what does.

Also imported where no shuffle was asked for, to tell its barriers from other tasks: there dask goes on without them,
but only if the module is "not found".
"""

raise ModuleNotFoundError(
    "headrace does not shuffle dataframes from peer to peer yet; leave shuffle_method (and the configuration key "
    "dataframe.shuffle.method) unset, or set it to 'tasks'",
    name=__name__,
)
