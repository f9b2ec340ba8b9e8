"""`indifast bench`: how fast this machine is. Each file says what process it is, or what it knows of the others."""
