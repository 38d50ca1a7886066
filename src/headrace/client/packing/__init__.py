"""The user's calls, graphs and options become messages: keys and payloads in columns. No client here."""
