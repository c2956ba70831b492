"""The network as the outage system knows it: what its elements are called, and which service points are served on a day.

A service point ``p`` is that of premise ``p``. It is served (IEEE 1366: metered, with an active account) from the day on
which it is connected, but for the days between two tenants.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from utilityflow.simulate.draws import at, int_array, text_array
from utilityflow.simulate.model import DISTRICTS, TOWNS_PER_DISTRICT, Layer, Utility

FIRST_POINT_NUMBER, FIRST_PREMISE_NUMBER = 300_000_000, 400_000_000
REGIONS = ("Lake", "Hills", "Valley", "Coast")  # the weather zones
TRANSFORMER_POINTS = 8


def point_name(p: str) -> str:
    """SQL of the service point's number in the outage system."""
    return f"concat('SP', {FIRST_POINT_NUMBER}L + {p})"


def premise_name(p: str) -> str:
    """SQL of the premise's number, which service desk and outage system share."""
    return f"concat('PR', {FIRST_PREMISE_NUMBER}L + {p})"


def transformer_name(circuit: str, transformer: str) -> str:
    """SQL of a transformer's number: that of its circuit, and its place there from 0."""
    return f"concat('TX-', lpad(cast({circuit} as string), 5, '0'), '-', lpad(cast({transformer} as string), 3, '0'))"


def element_name(prefix: str, number: str) -> str:
    """SQL of the name of a circuit (CK), feeder (FD) or substation (SS)."""
    return f"concat('{prefix}-', lpad(cast({number} as string), 5, '0'))"


def district_name(utility: Utility, district: str) -> str:
    """SQL of an operating district's name: that of its first town."""
    return at(text_array([utility.pools.towns[d * TOWNS_PER_DISTRICT] for d in range(DISTRICTS)]), district)


def region_name(zone: str) -> str:
    """SQL of the operating region: the weather zone."""
    return at(text_array(REGIONS), zone)


def tenancy_layers(utility: Utility, month: str = "m") -> list[Layer]:
    """From ``p`` and a month: ``o``, cycle, ``g``, ``left``, ``let``, ``connected_day``.

    ``g`` is the generation whose turnover is the last one; ``left`` and ``let`` are its days: the first without the tenant
    before, and the first with the new one, in days since 1970.

    :param month: SQL of the month.
    """
    starts = int_array(utility.almanac.month_starts)
    return [
        utility.tenancy_of_premise(),
        utility.pairing(),
        *utility.cycle(),
        {
            "g": f"({month} + phase) div span",
            "turned": at(starts, f"greatest(0L, {month} - ({month} + phase) % span)"),
        },
        *utility.turnover("g", "turned"),
        {
            "left": "if(role = 2, in_a, out_a)",
            "let": "if(role = 2, in_b, in_a)",
            "connected_day": utility.connected_day(),
        },
    ]


SERVED = "NOT (g > 0 AND d >= left AND d < let) AND d >= connected_day"
"""Condition over :func:`tenancy_layers` and ``d``, a day of month ``m``."""


def served_points(utility: Utility, low: str, high: str, step: str) -> str:
    """SQL of the array of the premises ``low``, ``low + step`` .. ``high`` that are served on day ``d`` of month ``m``."""
    asked = ("g", "left", "let", "connected_day")
    places = over_each(f"sequence({low}, {high}, {step})", "p", tenancy_layers(utility), ("p", *asked))
    served = _of_item(SERVED, asked)
    return f"transform(filter({places}, item -> {served}), item -> item.p)"


def over_each(array: str, name: str, layers: Sequence[Layer], keep: Sequence[str]) -> str:
    """SQL of an array of structs: the layers' columns for each item of an array, of which ``keep`` stay.

    What the layers name and do not make, but for ``name`` (the item itself), are columns of the row. So an aggregate over the
    things that hang on something needs neither rows for them nor a shuffle.
    """
    names, sql = [name], f"transform({array}, item -> named_struct('{name}', item))"
    for layer in layers:
        made = [f"'{n}', item.{n}" for n in names] + [f"'{n}', {_of_item(e, names)}" for n, e in layer.items()]
        sql, names = f"transform({sql}, item -> named_struct({', '.join(made)}))", [*names, *layer]
    return f"transform({sql}, item -> named_struct({', '.join(f'{n!r}, item.{n}' for n in keep)}))"


def prefixed(layers: Sequence[Layer], prefix: str) -> list[Layer]:
    """The same layers under other names, for rows that will need them once more: what they make is called ``prefix`` + name."""
    made, renamed = list[str](), list[Layer]()
    for layer in layers:
        renamed.append({prefix + n: _named(e, made, prefix) for n, e in layer.items()})
        made += layer
    return renamed


def _of_item(expression: str, names: Sequence[str]) -> str:
    """The expression with the named columns as fields of the item."""
    return _named(expression, names, "item.")


def _named(expression: str, names: Sequence[str], before: str) -> str:
    """The expression with something before each of the names; a name before a parenthesis is a function."""
    if not names:
        return expression
    return re.sub(rf"(?<![\w.'])({'|'.join(names)})(?![\w'(])", rf"{before}\g<1>", expression)
