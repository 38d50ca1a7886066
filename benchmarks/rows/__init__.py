"""A module per row: `run(session)` measures a side, `reference(session)` what stands beside both."""
