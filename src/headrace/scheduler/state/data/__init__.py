"""Where results are: copies, scattered data, actors, and the active memory manager."""
