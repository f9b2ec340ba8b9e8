"""Driver library: devices made of property vectors, and the handling of commands sent to them."""
