"""The driver library: devices made of property vectors, and what becomes of commands for them."""
