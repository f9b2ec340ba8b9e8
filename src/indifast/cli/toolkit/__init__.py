"""What commands that talk to a server are made of: how to reach it, what to ask for, how to show the answer."""
