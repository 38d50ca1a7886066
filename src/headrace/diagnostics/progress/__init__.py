"""How far work is: counted by the scheduler, pushed to clients, drawn on terminals and in notebooks."""
