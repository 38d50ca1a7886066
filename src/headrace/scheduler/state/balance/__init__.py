"""Work and workers in balance: stealing, and how many workers are needed."""
