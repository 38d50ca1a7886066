"""Cards of clients and futures, and tables of answers, as notebooks show them."""
