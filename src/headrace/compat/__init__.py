"""Public module paths of the peer that have no module of the same name here: re-exports, and nothing else."""
