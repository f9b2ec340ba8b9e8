"""`indifast record` and `indifast replay`."""
