"""Progress of work: counted by the scheduler, pushed to clients, drawn on terminals and in notebooks."""
