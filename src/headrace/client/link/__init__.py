"""The client's conversation with the scheduler: connection, messages that wait, and what is known of the other side."""
