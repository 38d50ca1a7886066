"""`distributed.http.worker`."""
