"""Small data structures and parsing, standard library only: importable from every layer, pure ones included."""
