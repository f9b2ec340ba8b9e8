"""Fixtures of the codec's tests: the paths of this processor, and the C harness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from indifast import _base64
from tests.support import native

HARNESS = Path(__file__).with_name("harness.c")


@pytest.fixture(params=_base64.paths())
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once with each path that this processor has."""
    previous = _base64.use_path(request.param)
    yield request.param
    _base64.use_path(previous)


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that compiles harness.c with the given flags and compiler, once."""
    built: dict[tuple[str, ...], Path] = {}

    def build(*flags: str, compiler: str = "gcc") -> Path:
        key = (compiler, *flags)
        if key not in built:
            out = tmp_path_factory.mktemp("harness") / "harness"
            built[key] = native.compile_c(HARNESS, out, *flags, compiler=compiler)
        return built[key]

    return build
