"""`distributed.http.scheduler`."""
