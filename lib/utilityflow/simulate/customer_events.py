"""What happens to customers, when, and in which month's file they are told of it.

A customer's whole life is a closed formula of the ids; each file month lists the events that may fall into it and keeps
those that are delivered then.
"""

from __future__ import annotations

from utilityflow.simulate.draws import bits, draw
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.people import class_code

# kinds of events; the order decides between events of one second
MOVE_IN, MOVE, RENAME, RECLASS, MOVE_OUT, OVERDUE, SUSPEND, RESTORE, TOUCH, MISTAKE, CORRECTION = range(11)

_DAY_SHIFT = 1_000_000  # keeps days before 1970 positive inside an event's code
_EARLIEST_CHANGE = 240  # months before the start that names and classes changed already


def event_layers(utility: Utility) -> list[Layer | str]:
    """From tenancies ``o`` with their cycle and a file month ``k``: one row for each event in the file.

    Adds ``g``, ``number``, ``came``, ``moved``, ``gone``, the customer's hashes and days, then ``kind``, ``t`` (day of
    effect), ``late`` (months), ``due`` (month of first delivery), ``he`` (hash of the event) and ``copy``.
    """
    first_days_ago = f"{month_day('k', utility)} - 100L"
    return [
        {"profile": utility.profile(), "latest": "(k + phase) div span"},
        {
            "back": """explode(CASE WHEN head OR latest = 0 THEN array(0) WHEN latest = 1 THEN array(0, 1)
                ELSE array(0, 1, 2) END)"""
        },
        {"g": "latest - back"},
        "head OR NOT (role = 1 AND g > 0)",
        *_stay(utility),
        f"head OR gone >= {first_days_ago}",
        *_changes(utility),
        {"event": f"explode(if(head, array({_code('0L', MOVE_IN)}), {_events(utility)}))"},
        "event IS NOT NULL",
        *_delivery(utility),
    ]


def month_day(month: str, utility: Utility) -> str:
    """SQL of the first day of any month, in days since 1970-01-01."""
    return f"cast(unix_date(add_months(DATE'{utility.almanac.start.isoformat()}', cast({month} as int))) as bigint)"


def _stay(utility: Utility) -> list[Layer]:
    """First and last day of the customer who came with generation ``g``, and the day of a move within (or null)."""
    turns = []
    for step in range(3):
        first = {f"turned{step}": month_day(f"(g + {step}L) * span - phase", utility)}
        turns.append([first, *utility.turnover(f"(g + {step}L)", f"turned{step}", str(step))])
    return [
        *[{**a, **b, **c} for a, b, c in zip(*turns, strict=True)],
        {
            "came": f"CASE WHEN g = 0 THEN turned0 + {bits('ho', 0, 6)} % 28L WHEN role = 2 THEN in_b0 ELSE in_a0 END",
            "moved": "CASE WHEN role = 2 THEN in_a1 END",
            "gone": "if(role = 2, out_a2, out_a1)",
            "number": f"if(seasonal, {utility.customer_number('o', '0L')}, {utility.customer_number('o', 'g')})",
        },
    ]


def _changes(utility: Utility) -> list[Layer]:
    """The customer's own hashes, the days of a new name and class, and overdue spells of this quarter and the last."""
    seed = utility.seed
    renamed, reclassed = (f"{bits('change_hash', low, w)} - {_EARLIEST_CHANGE}L" for low, w in ((0, 11), (16, 12)))
    month = month_day("k", utility)
    return [
        {
            "person_hash": draw(seed, "person", "number"),
            "change_hash": draw(seed, "changes", "number"),
            "touch_hash": draw(seed, "touches", "number", "k"),
            "now_hash": draw(seed, "overdue", "number", "k div 3"),
            "before_hash": draw(seed, "overdue", "number", "k div 3 - 1"),
        },
        {
            "rename_day": f"{month_day(renamed, utility)} + {bits('change_hash', 11, 5)} % 28L",
            "reclass_day": f"{month_day(reclassed, utility)} + {bits('change_hash', 28, 5)} % 28L",
            "owed_now": _owed("now_hash", "k - k % 3", "true", utility),
            "owed_before": _owed("before_hash", "k - k % 3 - 3", "k >= 3", utility),
            "touched": f"if({bits('touch_hash', 20, 10)} < 10, {month} + {bits('touch_hash', 30, 5)} % 28L, null)",
            "mistaken": f"if({bits('touch_hash', 0, 10)} < 3, {month} + {bits('touch_hash', 10, 5)} % 25L, null)",
        },
        {
            **{
                f"cut_{q}": f"if({bits(h, 16, 2)} = 0, owed_{q} + 10L + {bits(h, 18, 4)} % 10L, null)"
                for q, h in _SPELLS
            },
            **{f"paid_{q}": f"owed_{q} + 21L + {bits(h, 22, 4)}" for q, h in _SPELLS},
        },
    ]


def first_came(utility: Utility) -> str:
    """SQL of the day on which the first tenant came of a tenancy ``o`` that stood at the start, from its cycle."""
    return f"{month_day('(0L - phase)', utility)} + {bits('ho', 0, 6)} % 28L"


_SPELLS = (("now", "now_hash"), ("before", "before_hash"))


def _owed(hashed: str, month: str, when: str, utility: Utility) -> str:
    """SQL of the day in a quarter from which a customer is overdue, or null."""
    return f"if({when} AND {bits(hashed, 0, 10)} < 60, {month_day(month, utility)} + {bits(hashed, 10, 6)} % 45L, null)"


def _code(day: str, kind: int) -> str:
    return f"({day} + {_DAY_SHIFT}L) * 16L + {kind}L"


def _events(utility: Utility) -> str:
    """SQL of the codes of all events of a customer that file month ``k`` may tell, null where there is none."""
    within = {
        "moved": MOVE,
        "rename_day": RENAME,
        "touched": TOUCH,
        "mistaken": MISTAKE,
        **{f"owed_{q}": OVERDUE for q, _ in _SPELLS},
        **{f"cut_{q}": SUSPEND for q, _ in _SPELLS},
        **{f"paid_{q}": RESTORE for q, _ in _SPELLS},
    }
    corrected = f"mistaken + 3L * {bits('touch_hash', 15, 1)}"
    profile_class = class_code("profile")
    codes = [_code("came", MOVE_IN), _code("gone", MOVE_OUT)]
    codes += [f"if({day} > came AND {day} < gone, {_code(day, kind)}, null)" for day, kind in within.items()]
    codes.append(f"if(mistaken > came AND {corrected} < gone, {_code(corrected, CORRECTION)}, null)")
    reclassed = f"reclass_day > came AND reclass_day < gone AND {profile_class} IN ('RES', 'COM')"
    codes.append(f"if({reclassed}, {_code('reclass_day', RECLASS)}, null)")
    return f"array({', '.join(codes)})"


def _delivery(utility: Utility) -> list[Layer]:
    """Which events are in the file of month ``k``, and how often: some come late, some twice, some again next month."""
    first_month = utility.almanac.start.year * 12 + utility.almanac.start.month
    date = "date_from_unix_date(cast(t as int))"
    return [
        {"kind": "event & 15L", "t": f"(event div 16L) - {_DAY_SHIFT}L"},
        {
            "he": draw(utility.seed, "event", "number", "kind", "t"),
            "effect": f"greatest(0L, cast(year({date}) * 12 + month({date}) - {first_month} as bigint))",
            "history": f"t < {utility.almanac.first_day}L",
        },
        {
            "late": f"""CASE WHEN kind >= {TOUCH} THEN 0L WHEN history THEN if({bits("he", 0, 10)} = 0, 1L, 0L)
                WHEN {bits("he", 0, 7)} < 4 THEN 1L WHEN {bits("he", 0, 7)} = 4 THEN 2L ELSE 0L END""",
            "again": bits("he", 10, 8),
        },
        {"due": "effect + late"},
        {
            "copy": f"""explode(CASE WHEN head THEN array(0) WHEN due = k THEN if(again < 2, array(0, 1), array(0))
                WHEN due + 1L = k AND again = 2 AND kind < {TOUCH} THEN array(1)
                ELSE cast(array() as array<int>) END)"""
        },
    ]
