"""Customer management: one file of change events a month, each row the whole customer record after the change.

The first file holds everybody's history so far (move-ins over earlier years); later ones the changes of their month:
moves, new names, classes and statuses, move-outs, new customers, touches that change nothing, wrong addresses put right
(A-B-A), events entered a month or two late, events sent twice.
"""

from __future__ import annotations

from utilityflow.simulate.customer_events import CORRECTION, MISTAKE, MOVE_IN, MOVE_OUT, event_layers
from utilityflow.simulate.defects import Planter, Quirk, Scope, Spec
from utilityflow.simulate.draws import at, bits, int_array, text_array
from utilityflow.simulate.extract import Extract, layered, one_file_each
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.people import addresses, class_code, names

SYSTEM, FEED = "customer_management", "cis_customers"
COLUMNS = ("customer_id", "name", "street", "city", "state", "zip", "class", "status", "changed_at", "seq", "op")
KEY = ("customer_id", "seq")  # the raw columns of which the ledger's row_key is made
ROW_BYTES = 118
CHUNK = 250_000  # tenancies a file: larger utilities get several files a month
CLERKS = 40


def _quirks(utility: Utility) -> dict[str, Quirk]:
    """What customer management does by itself; of a late event the ledger tells in which month it was told."""
    month = f"cast(add_months(DATE'{utility.almanac.start.isoformat()}', cast(k as int)) as string)"
    return {
        "repeated": Quirk("copy > 0"),
        "late": Quirk("copy = 0 AND late > 0 AND NOT head", clean="changed_at", told=month),
    }


def customers_extract(utility: Utility, months: range, specs: tuple[Spec, ...]) -> Extract:
    """The change events delivered in some months (indexes from 0); one partition and file per month and chunk."""
    almanac = utility.almanac
    chunks = [(m, first) for m in months for first in range(0, utility.tenancies(m), CHUNK)]
    rows = min(CHUNK, utility.tenancies(months[-1]))
    planter = Planter(utility.seed, SYSTEM, specs, _scopes(months), COLUMNS, quirks=_quirks(utility), accounts=True)
    files = {
        "k": f"cast({at(int_array([m for m, _ in chunks]), 'file_no')} as bigint)",
        "o": f"n + {at(int_array([first for _, first in chunks]), 'file_no')}",
    }
    exists = f"head OR (n < {CHUNK} AND o < {utility.customers}L + {utility.growth}L * k)"
    expected = [utility.tenancies(0) * 1.15 if m == 0 else utility.tenancies(m) * 0.12 for m in months]
    return Extract(
        system=SYSTEM,
        feed=FEED,
        query=layered(one_file_each(len(chunks), rows, "n"), [files, exists, *_layers(utility, planter)]),
        files=tuple(
            _file_name(almanac.month_start(m).strftime("%Y-%m"), first, utility.tenancies(m)) for m, first in chunks
        ),
        planter=planter,
        expected_rows=round(sum(expected)),
        row_bytes=ROW_BYTES,
        quoted=frozenset({"name", "street", "city"}),
        whole_stage=False,
        form="csv",
    )


def _file_name(month: str, first: int, tenancies: int) -> str:
    return f"{FEED}_{month}" + (f"_part{first // CHUNK + 1:02d}" if tenancies > CHUNK else "")


def _scopes(months: range) -> dict[str, Scope]:
    years = {m // 12 for m in months}
    return {
        "clerk": Scope("clerk", (tuple(range(CLERKS)),)),
        "file": Scope("k", tuple(tuple(range(y * 12, y * 12 + 12)) for y in sorted(years))),
    }


def _layers(utility: Utility, planter: Planter) -> list[Layer | str]:
    return [
        utility.pairing(),
        *utility.cycle(),
        *event_layers(utility),
        *_state(utility),
        *addresses(utility),
        *names(utility),
        *_record(utility, planter),
    ]


def _state(utility: Utility) -> list[Layer]:
    """The customer's record right after the event: where, which class, which status, and when it was entered."""
    overdue = " ".join(
        f"WHEN t >= owed_{q} AND t < paid_{q} THEN if(t >= cut_{q}, 'S', 'P')" for q in ("now", "before")
    )
    # both events of a slip are minutes apart where they fall on one day
    slip = f"{bits('touch_hash', 44, 15)} % 32400L + if(kind = {CORRECTION}, 900L, 0L)"
    starts = utility.almanac.month_starts
    return [
        {
            "p": f"{utility.annexes}L + if(t >= moved, o - {utility.half}L, o)",
            "class_first": class_code("profile"),
            "renamed": "t >= rename_day",
            "status": f"CASE WHEN kind = {MOVE_OUT} THEN 'C' {overdue} ELSE 'A' END",
            "entered": f"if(late = 0, t, {at(int_array(starts), 'due')} + {bits('he', 36, 5)} % 28L)",
            "second": f"25200L + if(kind IN ({MISTAKE}, {CORRECTION}), {slip}, {bits('he', 20, 16)} % 39600L)",
            "clerk": f"{bits('he', 41, 10)} % {CLERKS}L",
        },
        {
            **utility.network(),
            "class": """CASE WHEN t < reclass_day THEN class_first WHEN class_first = 'RES' THEN 'COM'
                WHEN class_first = 'COM' THEN 'IND' ELSE class_first END""",
            "sequence": "(entered * 86400L + second) * 16L + kind",
        },
    ]


def _record(utility: Utility, planter: Planter) -> list[Layer]:
    """The raw columns as the file shows them, the row's key for the ledger and its defect."""
    two = text_array([f"{i:02d}" for i in range(60)])
    clock = f"{at(two, 'second div 3600L')}, ':', {at(two, 'second div 60L % 60L')}, ':', {at(two, 'second % 60L')}"
    return [
        {
            "customer_id": "cast(number as string)",
            "street": f"concat(house + if(kind = {MISTAKE}, 1000L, 0L), ' ', road, unit_no)",
            "changed_at": f"concat(cast(date_from_unix_date(cast(t as int)) as string), ' ', {clock})",
            "seq": "cast(sequence as string)",
            "op": f"CASE kind WHEN {MOVE_IN} THEN 'I' WHEN {MOVE_OUT} THEN 'D' ELSE 'U' END",
            "defect": planter.drawn("number", "sequence"),
            "row_key": "concat(number, '|', sequence)",
        }
    ]
