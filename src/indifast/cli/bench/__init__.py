"""`indifast bench`: how fast this machine is. Each module is one of its processes, or manages the others."""
