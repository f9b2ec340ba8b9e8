"""Deterministic simulation of whole sites: servers, drivers, clients and the network between them.

The code under test is real, from the router to the streams; only the kernel below it is modelled, and the clock. One
seed decides everything that happens. `python -m tests.simulation --help` says how to run it.
"""
