"""A module per row: `run(session)` measures one side, `reference(session)` what stands beside both; both return figures."""
