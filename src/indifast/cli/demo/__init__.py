"""`indifast demo`: the drivers, their server and the client that watches them."""
