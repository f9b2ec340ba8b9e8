"""Benchmarks: `pytest --benchmark` guards against regressions, `python -m benchmarks.…` measures against the peers."""
