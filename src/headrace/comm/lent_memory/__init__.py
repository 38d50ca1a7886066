"""Large frames within one machine: the receiver reads the sender's memory (`memory_link` says how)."""
