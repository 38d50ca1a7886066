"""The scheduler's logic as a pure state machine: events in, messages out. No await, clock or config."""
