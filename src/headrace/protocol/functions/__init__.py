"""Functions as payloads: pickled once for thousands of calls, and anew when something that they reach has changed."""
