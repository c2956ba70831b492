"""Timelines as SVG: what was told, the versions that the engine made of it, and the days whose facts it reports.

A stage is drawn below the other: the events that were known, then the versions, then the affected interval if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LAST = 5.4  # days that are drawn; an open end goes to the edge
LEFT, DAY, LINE = 170, 105, 30
COLOURS = {"A": "#7fb3d5", "B": "#f0b27a", "C": "#82c09a", "X": "#bb8fce", "?": "#d5d8dc"}


@dataclass(frozen=True)
class Stage:
    """What is known at a moment.

    :param told: (day, name) of the standing events, name D for a delete; ``fresh``: those that came with this stage.
    :param versions: (from, to, name, label of the surrogate key), open bounds as None.
    :param affected: (from, to) as reported against the stage before.
    """

    title: str
    told: Sequence[tuple[float, str]]
    fresh: Sequence[tuple[float, str]]
    versions: Sequence[tuple[float | None, float | None, str, str]]
    affected: Sequence[tuple[float | None, float | None]] = ()
    facts: Sequence[tuple[float, str]] = ()


def svg(stages: Sequence[Stage]) -> str:
    """The picture of the stages, one below the other."""
    parts: list[str] = []
    top = 30
    for stage in stages:
        parts.append(_text(10, top + 4, stage.title, bold=True))
        top = _events(parts, stage, top)
        top = _versions(parts, stage, top)
        for row, name in ((stage.affected, "facts to look up again"),):
            if row:
                parts.append(_text(LEFT - 12, top + 4, name, anchor="end"))
                for low, high in row:
                    x, wide = _span(low, high)
                    parts.append(f'<rect x="{x:g}" y="{top - 4}" width="{wide:g}" height="8" fill="#c0392b"/>')
                top += LINE
        if stage.facts:
            parts.append(_text(LEFT - 12, top + 4, "a fact of that day finds", anchor="end"))
            for day, answer in stage.facts:
                parts.append(f'<path d="M {_x(day):g} {top - 15} v 9" stroke="#333"/>')
                parts.append(_text(_x(day), top + 4, answer, anchor="middle"))
            top += LINE
        top += 14
    high = top + 12
    axis = [f'<path d="M {LEFT} {high - 22} H {_x(LAST):g}" stroke="#999"/>']
    for day in range(int(LAST) + 1):
        axis.append(f'<path d="M {_x(day):g} 14 V {high - 18}" stroke="#eee"/>')
        axis.append(_text(_x(day), high - 6, f"day {day}", anchor="middle"))
    wide = _x(LAST) + 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high}" width="{wide:g}" height="{high}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, f'<rect width="{wide:g}" height="{high}" fill="white"/>', *axis, *parts, "</svg>"]) + "\n"


def _events(parts: list[str], stage: Stage, top: int) -> int:
    parts.append(_text(LEFT - 12, top + LINE - 8, "events", anchor="end"))
    y = top + LINE - 12
    for day, name in stage.told:
        fill = "#333" if (day, name) in stage.fresh else "#bbb"
        mark = f'<path d="M {_x(day) - 5:g} {y - 5} l 10 10 m 0 -10 l -10 10" stroke="{fill}" stroke-width="2.5"/>'
        parts.append(mark if name == "D" else f'<circle cx="{_x(day):g}" cy="{y}" r="5" fill="{fill}"/>')
        before = [one for at, one in stage.told if at == day and (at, one) < (day, name)]  # of the same moment
        parts.append(_text(_x(day) + 9 + 14 * len(before), y + 4, "delete" if name == "D" else name))
    return top + LINE


def _versions(parts: list[str], stage: Stage, top: int) -> int:
    parts.append(_text(LEFT - 12, top + 18, "versions", anchor="end"))
    if not stage.versions:
        parts.append(_text(LEFT, top + 18, "none"))
    for low, high, name, key in stage.versions:
        x, wide = _span(low, high)
        parts.append(f'<rect x="{x:g}" y="{top + 3}" width="{wide:g}" height="22" fill="{COLOURS[name]}" stroke="#555"/>')
        parts.append(_text(x + wide / 2, top + 18, f"{name}  {key}", anchor="middle"))
    return top + LINE + 12


def _x(day: float) -> float:
    return LEFT + DAY * day


def _span(low: float | None, high: float | None) -> tuple[float, float]:
    start, end = _x(-0.05 if low is None else low), _x(LAST if high is None else high)
    return start, end - start


def _text(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{weight}>{words}</text>'
