"""Pages of HTML about work: each needs nothing but itself (no network, no packages), and escapes all that it shows."""
