"""Results on workers: replicas, scattered data, actors, and the active memory manager."""
