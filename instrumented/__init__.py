"""The whole test suite with instruments: sanitizers, line tracing. See README.md.

Each kind of instrument has a copy of the repository in `build`, with an environment and compiled parts of its own.
"""
