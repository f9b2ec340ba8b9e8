"""Pictures of results with a number on the x axis: a curve for each contender."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Result, Row


def draw_curves(
    file: Path, result: Result, rows: Sequence[Row], *, title: str, axis: str, unit: str, base: int | None = 10
) -> None:
    """Draw the medians of rows on a logarithmic axis, where a zero has no place.

    Args:
        file: The picture.
        result: The result that the rows are from.
        rows: The rows, each with its `x`.
        title: What is drawn.
        axis: Label of the x axis.
        unit: Label of the y axis.
        base: Base of a logarithmic x axis; None for a linear one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for contender, marker in zip(result.contenders, "os^vD*", strict=False):
        points = [(row.x, median) for row in rows if (median := row.median(contender))]
        if points:
            axes.plot(*zip(*points, strict=True), marker=marker, label=contender)
    axes.set(title=title, xlabel=axis, ylabel=unit, yscale="log")
    if base is not None:
        axes.set_xscale("log", base=base)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    figure.savefig(file, metadata={"Software": None})
