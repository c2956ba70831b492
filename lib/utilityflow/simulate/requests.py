"""Service requests: the service desk's records, one file a local day, as an extract of its REST interface lands them.

A file holds the present state of each request that changed on its day: opened, worked on or waiting, closed, reopened, closed
again; so an id comes again in the file of each day on which it changes. Three things make requests (request_makers.py): outages,
moves and new buildings, and the days' own business, bills above all. Some customers ask twice about one thing (another id), some
come again after it was settled, some are not named. After storms the desk has a backlog.
"""

from __future__ import annotations

from dataclasses import replace

from utilityflow.simulate.defects import Planter, Scope, Spec
from utilityflow.simulate.draws import at, bits, draw, int_array, slots, text_array
from utilityflow.simulate.extract import Extract, kept, layered, one_file_each
from utilityflow.simulate.model import DISTRICTS, Layer, Utility
from utilityflow.simulate.network import district_name, premise_name
from utilityflow.simulate.people import addresses
from utilityflow.simulate.request_kinds import KINDS
from utilityflow.simulate.request_makers import DAY, TWICE_WITHIN, changes, life, numbered, numbers, request_layers
from utilityflow.simulate.stamps import utc_stamp

SYSTEM, FEED = "service_requests", "desk_requests"
DESK, DESK_FEED = "service_desk", "desk_rest_requests"  # the same as a source that is asked: what its server shows, not landed
COLUMNS = (
    "id", "customer", "type", "detail", "priority", "state", "opened_at", "due_at", "closed_at", "updated_at", "location",
)  # fmt: skip
KEY = ("id", "updated_at")  # the raw columns of which the ledger's row_key is made
NESTED = frozenset({"customer", "location"})  # JSON objects
ROW_BYTES = 480
AGENTS = 20
CHANNELS = {"phone": 56.0, "web": 24.0, "app": 12.0, "email": 8.0}
OPEN, BEGUN, CLOSED, AGAIN, ENDED = range(5)  # how far a request has come


def requests_extract(utility: Utility, months: range, specs: tuple[Spec, ...]) -> Extract:
    """The requests that changed in some months (indexes from 0); one partition and file per local day."""
    almanac = utility.almanac
    first, last = almanac.month_starts[months.start], almanac.month_starts[months.stop]
    days = [almanac.days[d - almanac.first_day] for d in range(first, last)]
    planter = Planter(utility.seed, SYSTEM, specs, _scopes(utility, months), COLUMNS)
    given = numbers(utility, months[-1])
    layers = [
        {"f": f"file_no + {first}L"},
        *numbered(utility, given),
        *_defect(utility, planter),
        *request_layers(utility),
        *_layers(utility),
    ]
    return Extract(
        system=SYSTEM,
        feed=FEED,
        query=layered(one_file_each(len(days), given.rows, "n"), layers),
        files=tuple(f"{FEED}_{day.isoformat()}" for day in days),
        planter=planter,
        expected_rows=round(len(days) * (utility.premises(months[-1]) * 0.0045 + 1)),
        row_bytes=ROW_BYTES,
        whole_stage=False,
        form="jsonl",
        nested=NESTED,
    )


def desk_extract(utility: Utility, months: range, specs: tuple[Spec, ...]) -> Extract:
    """The same records, with the same defects, as the service desk itself keeps them: ``serve`` shows a folder of them."""
    landed = requests_extract(utility, months, specs)
    return replace(landed, feed=DESK_FEED, files=tuple(name.replace(FEED, DESK_FEED, 1) for name in landed.files))


def _scopes(utility: Utility, months: range) -> dict[str, Scope]:
    starts = utility.almanac.month_starts
    return {
        "clerk": Scope("agent", (tuple(range(AGENTS)),)),
        "file": Scope("f", tuple(tuple(range(starts[m], starts[m + 1])) for m in months)),
    }


def _defect(utility: Utility, planter: Planter) -> list[Layer]:
    """Drawn first, and for all that a file tells of one cause: so the ledger looks at the affected causes only."""
    agent = f"{bits(draw(utility.seed, 'agent', 'maker', 'd', 'cause_no', 'f'), 0, 10)} % {AGENTS}L"
    return [{"agent": agent}, {"defect": planter.drawn("maker", "d", "cause_no", "f")}]


def _layers(utility: Utility) -> list[Layer]:
    network = utility.network()
    place, where = addresses(utility)
    return [
        {"told_twice": f"explode(if(NOT head AND {bits('hr', 30, 8)} < 10L, array(0L, 1L), array(0L)))"},
        {
            "w_asked": f"""asked + if(told_twice = 1,
                least(180L + {bits('hr', 38, 11)}, {TWICE_WITHIN}L, (closes - asked) div 2L), 0L)""",
            "w_closes": "closes",
            "hw": draw(utility.seed, "what becomes of it", "hr", "told_twice"),
        },
        *life("w_", "hr", "request"),
        kept(f"head OR {changes('w_')}", "has_changed"),
        {n: e for n, e in network.items() if n in ("circuit", "transformer", "district")},
        {"place": place["place"], "hp_l": draw(utility.seed, "where", "circuit", "transformer")},
        {n: where[n] for n in ("city", "zip")},
        *_state(),
        _record(utility),
    ]


def _state() -> list[Layer]:
    """How far the request has come by the end of the day, and the instants that the desk shows."""
    stages = {ENDED: "w_ends", AGAIN: "w_again", CLOSED: "w_closes", BEGUN: "w_begun"}
    return [
        {"stage": f"CASE {' '.join(f'WHEN {name} < day_ends THEN {stage}' for stage, name in stages.items())} ELSE {OPEN} END"},
        {
            "updated": f"CASE stage {' '.join(f'WHEN {stage} THEN {name}' for stage, name in stages.items())} ELSE w_asked END",
            "shut": f"CASE stage WHEN {ENDED} THEN w_ends WHEN {CLOSED} THEN w_closes END",
            "due": f"nullif({at(int_array([k.due for k in KINDS]), 'request')}, 0)",
        },
    ]


def _record(utility: Utility) -> Layer:
    """The fields as the desk shows them, and the row's key for the ledger."""
    channel = at(text_array(slots(CHANNELS, 64)), bits("hw", 10, 6))
    begun = at(text_array(slots({"in progress": 9.0, "waiting for customer": 4.0, "assigned": 3.0}, 16)), bits("hw", 16, 4))
    shut = f"""CASE WHEN w_again IS NULL AND {bits("hw", 20, 8)} < 6L THEN 'cancelled'
        WHEN {bits("hw", 28, 2)} = 0 THEN 'resolved' ELSE 'closed' END"""
    number = "concat('SR-', name, if(told_twice = 1, 'b', ''))"

    def word(field: str) -> str:
        return at(text_array([getattr(k, field) for k in KINDS]), "request")

    def degrees(millionths: str) -> str:
        return f"concat(({millionths}) div 1000000L, '.', lpad(cast(({millionths}) % 1000000L as string), 6, '0'))"

    north = f"41000000L + (district div 6L) * 400000L + {bits('hp_l', 0, 18)}"
    west = f"73500000L + (district % 6L) * 500000L + {bits('hp_l', 18, 18)}"
    fields = {
        "premise": f"if(unnamed, '\"\"', concat('\"', {premise_name('p')}, '\"'))",
        "city": "concat('\"', city, '\"')",
        "zip": "concat('\"', zip, '\"')",
        "district": f"concat('\"', {district_name(utility, f'p % {DISTRICTS}L')}, '\"')",
        "latitude": degrees(north),
        "longitude": f"concat('-', {degrees(west)})",
    }
    location = ", ', ', ".join(f"'\"{n}\": ', {e}" for n, e in fields.items())
    return {
        "id": number,
        # the desk writes a C before the number that customer management gives
        "customer": f"""concat('{{"number": ', coalesce(concat('"C', who, '"'), '""'),
            ', "channel": "', {channel}, '"}}')""",
        "type": word("type"),
        "detail": word("detail"),
        "priority": word("priority"),
        "state": f"CASE stage WHEN {OPEN} THEN 'open' WHEN {BEGUN} THEN {begun} WHEN {AGAIN} THEN 'reopened' ELSE {shut} END",
        "opened_at": utc_stamp("w_asked"),
        "due_at": utc_stamp(f"(w_asked + due * {DAY}L)"),
        "closed_at": utc_stamp("shut"),
        "updated_at": utc_stamp("updated"),
        "location": f"concat('{{', {location}, '}}')",
        "row_key": f"concat({number}, '|', {utc_stamp('updated')})",
        "copy": "0",
    }
