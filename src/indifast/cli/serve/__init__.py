"""`indifast serve` and `indifast-server`."""
