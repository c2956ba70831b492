"""How a household pays its bills: its habit, its usual way, the day, and what goes wrong; asked by payments and by late fees.

A habit belongs to a premise and a generation of its occupants (of a pair's first the same as of the tenancy), a bill's own chance
to premise and issue month. Nothing here needs the amount of the bill, so that days can be told before any bill is computed.
"""

from __future__ import annotations

from typing import NamedTuple

from utilityflow.simulate.accounts import DUE_DAYS
from utilityflow.simulate.draws import at, bits, draw, int_array, slots
from utilityflow.simulate.model import Layer, Utility

# habits: debited on the due day, prompt, late, in part and the rest later, in halves, rounded up, behind with most bills
DEBIT, PROMPT, LATE, PART, HALVES, OVER, BEHIND = range(7)
_HABITS = {DEBIT: 26, PROMPT: 20, LATE: 9, PART: 4, HALVES: 2, OVER: 1, BEHIND: 2}


class Way(NamedTuple):
    """How money moves: ``code`` in the file, ``fee`` of the processor in cents, ``delay`` from receipt to booking in days."""

    code: str
    channel: str
    fee: int
    delay: int


WAYS = (
    Way("DD", "bank", 0, 0),
    Way("CC", "web", 295, 1),
    Way("CHK", "mail", 0, 2),
    Way("ACH", "bank", 0, 1),
    Way("CSH", "kiosk", 150, 0),
    Way("WLT", "app", 195, 0),
)
DD, CC, CHK, ACH, CSH, WLT = range(6)
_USUAL = {CC: 24, CHK: 16, ACH: 14, CSH: 5, WLT: 5}
NEVER = 100_000  # days
SECOND_PART, SECOND_HALF, RETURNED, PAID_AGAIN, GIVEN_BACK = 14, 2, 4, 11, 21  # days after the payment
LONGEST = 52  # days from a bill to the last that its payment brings; less than two whole months


def paying(utility: Utility, month: str, name: str = "") -> list[Layer]:
    """From ``p``, ``o``, ``span``, ``phase``: how the bill of an issue month is paid.

    Adds, with the suffix ``name``: ``habit``, ``way``, ``lag`` (days from the bill to the payment, NEVER for none), ``chance``
    (hash), ``returned`` (the bank sends the payment back).
    """
    chance, person = f"chance{name}", f"person{name}"
    spread = {LATE: (DUE_DAYS + 1, 30), PROMPT: (3, 17), PART: (8, 14), HALVES: (5, 12), OVER: (5, 15), BEHIND: (30, 20)}
    days = " ".join(f"WHEN {h} THEN {low}L + {bits(chance, 0, 8)} % {n}L" for h, (low, n) in spread.items())
    return [
        {
            chance: draw(utility.seed, "paying", "p", month),
            person: draw(utility.seed, "payer", "o", f"({month} + phase) div span"),
        },
        {f"habit{name}": _pick(_HABITS, bits(person, 0, 6))},
        {
            f"way{name}": f"if(habit{name} = {DEBIT}, {DD}, {_pick(_USUAL, bits(person, 6, 6))})",
            f"lag{name}": f"""CASE WHEN habit{name} = {BEHIND} AND {bits(chance, 30, 8)} % 3L <> 0 THEN {NEVER}L
                ELSE CASE habit{name} {days} ELSE {DUE_DAYS}L END END""",
        },
        {f"returned{name}": f"habit{name} <= {PROMPT} AND way{name} IN ({DD}, {CHK}) AND {bits(chance, 8, 8)} < 5"},
    ]


def _pick(weights: dict[int, int], index: str) -> str:
    names = slots({str(k): float(w) for k, w in weights.items()}, 64)
    return at(int_array([int(n) for n in names]), index)
