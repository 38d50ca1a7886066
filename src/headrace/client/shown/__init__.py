"""What users see of a client: its card in notebooks, tables that answer questions, published datasets as a mapping."""
