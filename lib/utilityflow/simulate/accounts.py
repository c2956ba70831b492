"""Who is billed for which days: billing cycles, accounts, and the documents that a month's billing makes for a premise.

A premise is read and billed on the day of its cycle, one of 20 (by circuit, as meter routes go), spread over the business days
of the month. A **document** of issue month ``i`` is one of

- 0, the bill of who lives there at the end of the period that ends in ``i``, from the day he came if that is within,
- 1, the bill of who lived there before and left within or after it (his last one, when he left within),
- 2 and 3, the cancellation and the new bill of a wrong bill of the month before.

Days between two occupants are billed to nobody. All is a closed formula of premise and month, so no month needs the one before.
"""

from __future__ import annotations

import datetime as dt

from utilityflow.simulate.almanac import EPOCH, Almanac, is_rest_day
from utilityflow.simulate.draws import at, bits, draw, int_array
from utilityflow.simulate.model import Layer, Utility

CYCLES = 20
BILL, LAST_BILL, CANCELLATION, REBILL = range(4)
DUE_DAYS = 21
# of 1,024 bills that may be: estimated (every other month, so that two estimates never follow each other), and wrong
_ESTIMATED, _WRONG = 48, 9


def cycle_days(almanac: Almanac) -> list[int]:
    """Days of reading and billing, in days since 1970-01-01, at ``month * CYCLES + cycle``."""
    found = []
    for start, end in zip(almanac.month_starts, almanac.month_starts[1:], strict=False):
        days = [d for d in range(start, end) if not is_rest_day(EPOCH + dt.timedelta(days=d))]
        found += [days[c * len(days) // CYCLES] for c in range(CYCLES)]
    return found


def site(utility: Utility) -> list[Layer]:
    """From ``p``: who could live there, and ``cycle_no``; then ``rest_of_site``."""
    cycle = {"cycle_no": f"(p % {utility.circuits}L) % {CYCLES}L"}
    return [{**utility.tenancy_of_premise(), **cycle}, utility.pairing(), *utility.cycle()]


def rest_of_site(utility: Utility) -> list[Layer]:
    """From ``site``: the network, the meter, and ``odd`` (half of the premises)."""
    return [
        utility.network(),
        *utility.meter(),
        {"profile": utility.profile(), "connected_day": utility.connected_day(), "odd": bits("hp", 19, 1)},
    ]


def cancels(utility: Utility, issued: str) -> str:
    """SQL: whether documents 2 and 3 are possible in an issue month; ``period`` then looks whether the bill was there."""
    hashed = draw(utility.seed, "billing", "p", f"({issued} - 1L)")
    return f"({issued} > 0L AND {_wrong(hashed)})"


def _wrong(hashed: str) -> str:
    return f"{bits(hashed, 10, 10)} < {_WRONG}"


def reading_day(utility: Utility, month: str) -> str:
    """SQL of the day of a month on which the premises of ``cycle_no`` are read; the first day of all before month 0."""
    day = at(int_array(cycle_days(utility.almanac)), f"greatest({month}, 0L) * {CYCLES}L + cycle_no")
    return f"if({month} < 0L, {utility.almanac.first_day}L, cast({day} as bigint))"


def period(utility: Utility, wanted: str = "true") -> list[Layer]:
    """From ``rest_of_site``, issue month ``i`` and ``doc``: the documents that exist, with their period and account.

    Adds ``b`` (month in which the period ends), ``from_day``, ``to_day`` (the day after the last), ``days``, ``bill_day``,
    ``due_day``, ``before_day`` (first day of the period before), ``held`` (generation), ``customer``, ``final``, ``estimated``,
    ``trued`` (the bill before was estimated), ``stayed`` (the bill before was this customer's too), ``wrong`` (to be cancelled)
    and ``wrong_before`` (the bill before was, or would have been).

    :param wanted: SQL: which documents of those.
    """
    starts, first_day = int_array(utility.almanac.month_starts), f"{utility.almanac.first_day}L"
    exists = f"from_day < to_day AND (doc <> {LAST_BILL} OR g > 0) AND (doc < {CANCELLATION} OR wrong) AND ({wanted})"
    months = {"until": "b", "since": "(b - 1L)", "before_day": "(b - 2L)", "bill_day": "i"}
    return [
        {"b": f"if(doc >= {CANCELLATION}, i - 1L, i)"},
        {name: reading_day(utility, month) for name, month in months.items()},
        {"g": "(b + phase) div span", "turned": at(starts, "least(b, greatest(0L, b - (b + phase) % span))")},
        *utility.turnover("g", "turned"),
        {"left": "if(role = 2, in_a, out_a)", "let": "if(role = 2, in_b, in_a)"},
        {
            "held": f"if(doc = {LAST_BILL}, g - 1L, g)",
            "from_day": f"""CASE WHEN head THEN {first_day} WHEN g > 0 AND doc <> {LAST_BILL} THEN greatest(since, let)
                ELSE greatest(since, connected_day) END""",
            "to_day": f"CASE WHEN head THEN {first_day} + 1L WHEN doc = {LAST_BILL} THEN least(until, left) ELSE until END",
        },
        *_kinds(utility),
        {"there": f"explode({only_if(exists)})"},
    ]


def only_if(condition: str) -> str:
    """SQL of an array to explode: heads and the rows of a condition stay.

    Not a filter: the optimizer would push that down through every layer and write out each column on its way.
    """
    return f"if(head OR ({condition}), array(0), cast(array() as array<int>))"


def _kinds(utility: Utility) -> list[Layer]:
    """Which kind of bill it is: final, estimated, after an estimate, wrong."""
    now, before = (draw(utility.seed, "billing", "p", month) for month in ("b", "(b - 1L)"))
    here = f"(doc = {LAST_BILL} OR g = 0"  # who was there on a day, if also let by then
    return [
        {
            "billing_hash": now,
            "customer": utility.occupant("held"),
            "days": "to_day - from_day",
            "due_day": f"bill_day + {DUE_DAYS}L",
            "final": f"doc = {LAST_BILL} AND left <= until",
            "whole": "from_day = since AND to_day = until",
            "stayed": f"""b > 0L AND from_day = since AND before_day >= connected_day AND before_day < since
                AND {here} OR let <= before_day)""",
        },
        {
            # never in month 0, and only of who is there the day after, so that the next bill puts it right
            "estimated": f"{_guessed('b', 'billing_hash')} AND whole AND (doc <> {LAST_BILL} OR left > until)",
            "trued": f"stayed AND {_guessed('(b - 1L)', before)}",
        },
        {
            "wrong": f"doc <> {LAST_BILL} AND whole AND NOT estimated AND {_wrong('billing_hash')}",
            "wrong_before": _wrong(before),
        },
    ]


def _guessed(month: str, hashed: str) -> str:
    return f"({month} > 0L AND ({month} + odd) % 2L = 0L AND {bits(hashed, 0, 10)} < {_ESTIMATED})"


def bill_number(month: str, document: str, utility: Utility) -> str:
    """SQL of a bill's number: letter of the document, year and month of the period's end, premise, place of the occupant."""
    names = int_array([d.year % 100 * 100 + d.month for d in map(utility.almanac.month_start, range(utility.almanac.months))])
    letter = f"CASE {document} WHEN {CANCELLATION} THEN 'X' WHEN {REBILL} THEN 'R' ELSE 'B' END"
    period = f"lpad(cast({at(names, month)} as string), 4, '0')"
    return f"concat({letter}, {period}, '-', {premise()}, if({document} = {LAST_BILL}, '-2', '-1'))"


def premise() -> str:
    """SQL of the eight digits of ``p``."""
    return "lpad(cast(p as string), 8, '0')"


def tenant_digits() -> str:
    """SQL of the two digits that tell a premise's accounts apart: the generation ``held`` (a seasonal customer keeps his)."""
    return "lpad(cast(if(seasonal, 0L, held) as string), 2, '0')"
