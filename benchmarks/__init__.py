"""Benchmarks: `pytest --benchmark` guards against regressions, `python -m benchmarks.…` compares with the peers."""
