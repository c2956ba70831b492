"""Regulatory reporting: the outage system's export of its connectivity, who is supplied where.

One file of changes a month (several for large utilities). The first holds every service point with the day since which its
present tenant is there; later ones what changed: a tenant leaves (the point is inactive, without account and customer),
another one comes, a new building is connected. Some changes are told again in the next month's file.
"""

from __future__ import annotations

from utilityflow.simulate.accounts import premise
from utilityflow.simulate.customer_events import first_came
from utilityflow.simulate.defects import Planter, Quirk, Scope, Spec
from utilityflow.simulate.draws import at, bits, draw, int_array
from utilityflow.simulate.extract import CHUNK, Extract, layered, premise_files
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.network import (
    district_name,
    element_name,
    point_name,
    premise_name,
    region_name,
    tenancy_layers,
    transformer_name,
)

SYSTEM, FEED = "regulatory_reporting", "oms_service_points"
COLUMNS = (
    "service_point", "premise", "account_no", "customer_no", "transformer_no", "circuit_no", "feeder_no", "substation_no",
    "operating_district", "region", "service_status", "valid_from", "change_no", "action",
)  # fmt: skip
KEY = ("service_point", "change_no")  # the raw columns of which the ledger's row_key is made
ROW_BYTES = 150

# what a row tells; the order decides between changes of one day
FIRST, CONNECTED, LEFT, LET = range(4)
_SHIFT = 1_000_000  # keeps days before 1970 positive inside an event's code


def service_points_extract(utility: Utility, months: range, specs: tuple[Spec, ...]) -> Extract:
    """The changes of some months (indexes from 0); one partition and file per month and chunk of premises."""
    almanac = utility.almanac
    chunks, premises = premise_files(utility, months)
    quirks = {"repeated": Quirk("copy > 0")}  # told again in the next month
    planter = Planter(utility.seed, SYSTEM, specs, _scopes(utility, months), COLUMNS, quirks=quirks)
    expected = [utility.premises(m) * (1.02 if m == 0 else 0.035) for m in months]
    return Extract(
        system=SYSTEM,
        feed=FEED,
        query=layered(premises, _layers(utility, planter)),
        files=tuple(_file_name(f"{almanac.month_start(m):%Y-%m}", first, utility.premises(m)) for m, first in chunks),
        planter=planter,
        expected_rows=round(sum(expected)),
        row_bytes=ROW_BYTES,
        whole_stage=False,
        form="csv",
    )


def _file_name(month: str, first: int, premises: int) -> str:
    return f"{FEED}_{month}" + (f"_part{first // CHUNK + 1:02d}" if premises > CHUNK else "")


def _scopes(utility: Utility, months: range) -> dict[str, Scope]:
    years = sorted({m // 12 for m in months})
    return {
        "circuit": Scope("circuit", (tuple(range(utility.circuits)),)),
        "file": Scope("k", tuple(tuple(range(y * 12, y * 12 + 12)) for y in years)),
    }


def _layers(utility: Utility, planter: Planter) -> list[Layer | str]:
    starts = int_array(utility.almanac.month_starts)
    return [
        {"m": "k"},
        *tenancy_layers(utility),
        {
            "since": at(starts, "k"),
            "before": f"if(k = 0, {at(starts, '0')}, {at(starts, 'greatest(k - 1, 0L)')})",
            "until": at(starts, "k + 1"),
            # of those that stood at the start: when the present tenant came, as customer management tells it
            "came": first_came(utility),
        },
        {"event": f"explode(if(head, array({_code('0L', FIRST)}), {_events(utility)}))"},
        "event IS NOT NULL",
        {"kind": "event & 3L", "t": f"(event div 4L) - {_SHIFT}L"},
        {"he": draw(utility.seed, "connectivity", "p", "event"), "generation": f"if(kind < {LEFT}, 0L, g)"},
        {"copy": f"if(kind <> {FIRST} AND t < since, 1, 0)", "again": f"{bits('he', 0, 7)} = 0"},
        "head OR copy = 0 OR again",
        {**utility.network(), "customer": utility.occupant("generation")},
        _record(utility, planter),
    ]


def _code(day: str, kind: int) -> str:
    return f"({day} + {_SHIFT}L) * 4L + {kind}L"


def _events(utility: Utility) -> str:
    """SQL of the codes of all changes of a service point that file month ``k`` may tell, null where there is none.

    The generations of a tenancy are ten months long or more and its turnover is over within five: those of the month before
    belong to the same one.
    """
    told = "{0} >= before AND {0} < until"
    codes = {
        FIRST: (f"k = 0 AND o < {utility.customers}L", "came"),
        CONNECTED: (f"o >= {utility.customers}L AND {told.format('connected_day')}", "connected_day"),
        LEFT: (f"g > 0 AND left < let AND {told.format('left')}", "left"),
        LET: (f"g > 0 AND {told.format('let')}", "let"),
    }
    return f"array({', '.join(f'if({when}, {_code(day, kind)}, null)' for kind, (when, day) in codes.items())})"


def _record(utility: Utility, planter: Planter) -> Layer:
    """The raw columns as the file shows them, the row's key for the ledger and its defect."""
    served = f"kind <> {LEFT}"
    return {
        "service_point": point_name("p"),
        "premise": premise_name("p"),
        # billing's account: one for each tenant of a premise, but a seasonal one keeps his
        "account_no": f"if({served}, concat({premise()}, '/', lpad(cast(if(seasonal, 0L, generation) as string), 2, '0')), '')",
        # the outage system writes customers with twelve digits
        "customer_no": f"if({served}, lpad(cast(customer as string), 12, '0'), '')",
        "transformer_no": transformer_name("circuit", "transformer"),
        "circuit_no": element_name("CK", "circuit"),
        "feeder_no": element_name("FD", "feeder"),
        "substation_no": element_name("SS", "substation"),
        "operating_district": district_name(utility, "district"),
        "region": region_name("zone"),
        "service_status": f"if({served}, 'A', 'I')",
        "valid_from": "cast(date_from_unix_date(cast(t as int)) as string)",
        "change_no": "cast(event as string)",
        "action": f"if(kind IN ({FIRST}, {CONNECTED}), 'I', 'U')",
        "row_key": f"concat({point_name('p')}, '|', event)",
        "defect": planter.drawn("p", "event", "k"),
    }
