"""`indifast demo`: drivers, their server, and a client that watches them."""
