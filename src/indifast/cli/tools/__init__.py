"""Commands that talk to a server, one module each; what they share is the toolkit."""
