"""Measurements as bars in text and as pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from utilityflow.errors import UtilityFlowError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def bars(data: Sequence[tuple[str, float]], unit: str, width: int = 40) -> str:
    """Lines with label, bar and value."""
    if not data:
        return "  (nothing)"
    most, wide = max(v for _, v in data) or 1.0, max(len(label) for label, _ in data)
    return "\n".join(f"  {label:>{wide}} {'#' * max(1, round(width * v / most)):<{width}} {v:.4g} {unit}" for label, v in data)


def bar_picture(panels: Mapping[str, Sequence[tuple[str, float]]], title: str) -> bytes:
    """A PNG with a panel of horizontal bars for each title; the first bar of each is told apart by colour."""
    figure, axes = _figure(len(panels), title)
    for axis, (name, data) in zip(axes, panels.items(), strict=True):
        drawn = axis.barh([n for n, _ in data], [v for _, v in data], color=["#1b6ca8"] + ["#b9c3cc"] * (len(data) - 1))
        axis.bar_label(drawn, fmt="%.1f", padding=3)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set_title(name, fontsize=10)
    return _png(figure)


def line_picture(panels: Mapping[str, Sequence[tuple[float, float]]], title: str, across: str, *, log: bool = True) -> bytes:
    """A PNG with a panel of one line for each title, from zero up, over a logarithmic (or plain) axis."""
    figure, axes = _figure(len(panels), title)
    for axis, (name, points) in zip(axes, panels.items(), strict=True):
        axis.plot([x for x, _ in points], [y for _, y in points], marker="o", color="#1b6ca8")
        for x, y in points:
            axis.annotate(f"{y:.3g}", (x, y), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=8)
        if log:
            axis.set_xscale("log")
        else:
            axis.set_xticks([x for x, _ in points])
        axis.set_ylim(bottom=0, top=1.2 * max(y for _, y in points) or 1)
        axis.set_xlabel(across)
        axis.set_title(name, fontsize=10)
    return _png(figure)


def canvas() -> type[Figure]:
    """What pictures are drawn on.

    :raises UtilityFlowError: UF-1007 without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UtilityFlowError("UF-1007", "pictures need matplotlib", hint="pip install 'utilityflow[dev]'") from error
    return Figure


def _figure(panels: int, title: str) -> tuple[Figure, Sequence[Axes]]:
    figure = canvas()(figsize=(5.5 * panels, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _png(figure: Figure) -> bytes:
    to = io.BytesIO()
    figure.savefig(to, format="png", dpi=110)
    return to.getvalue()
