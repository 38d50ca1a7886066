"""Imported by dask to shuffle a dataframe from peer to peer: says that this does not exist, and what does."""

raise ImportError(
    "headrace does not shuffle dataframes from peer to peer yet; leave shuffle_method (and the configuration key "
    "dataframe.shuffle.method) unset, or set it to 'tasks'"
)
