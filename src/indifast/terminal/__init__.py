"""The terminal client, `indifast term`."""
