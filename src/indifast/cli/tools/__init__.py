"""Commands that talk to a server, one module each; `toolkit` holds what they share."""
