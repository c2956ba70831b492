"""Usage monitoring, on request: gas meters without radio, read by walking once a month, with registers that roll over.

One file a month. A meter shows five digits (m3, whole numbers) and goes on from 00000 after 99999. Where nobody opened the
door there is no read, and the next one tells of both months. The index of any month is a sum over the months before it in a
closed formula, so no month needs another's file.
"""

from __future__ import annotations

from utilityflow.simulate.defects import Planter, Spec
from utilityflow.simulate.draws import at, bits, draw, int_array, share
from utilityflow.simulate.extract import Extract, layered, one_file_each
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.reads import SYSTEM, tenant

FEED = "gas_monthly_reads"
COLUMNS = ("meter_id", "customer_id", "previous_date", "read_date", "previous_index", "current_index", "usage_m3", "quality")
KEY = ("meter_id", "read_date")  # the raw columns of which the ledger's row_key is made
ROW_BYTES = 68
DIGITS = 5  # of a register
# m3 of a dwelling of mean size by month of the year, from January
_NEED = (260, 230, 190, 110, 50, 25, 20, 20, 35, 95, 170, 240)


def gas_extract(utility: Utility, months: range, specs: tuple[Spec, ...] = ()) -> Extract:
    """The gas reads of some months (indexes from 0); one partition and file a month."""
    rows = utility.premises(months[-1])
    file_month = f"cast({at(int_array(list(months)), 'file_no')} as bigint)"
    planter = Planter(utility.seed, FEED, specs, {}, COLUMNS)
    return Extract(
        system=SYSTEM,
        feed=FEED,
        query=layered(one_file_each(len(months), rows, "p"), _layers(utility, file_month, planter)),
        files=tuple(f"{FEED}_{utility.almanac.month_start(m):%Y-%m}" for m in months),
        planter=planter,
        expected_rows=round(len(months) * rows * 0.12),
        row_bytes=ROW_BYTES,
    )


def _layers(utility: Utility, file_month: str, planter: Planter) -> list[Layer | str]:
    starts = int_array(utility.almanac.month_starts)
    seed = utility.seed
    return [
        {"m": file_month, **utility.network(), **utility.tenancy_of_premise()},
        {"hg": draw(seed, "gas", "p")},
        f"head OR {burns_gas(utility)}",
        {"defect": planter.drawn("p", "m")},
        utility.pairing(),
        *utility.cycle(),
        {"connected_day": utility.connected_day()},
        {"d": f"{at(starts, 'm')} + 1L + {bits('hg', 3, 8)} % 19L", "since": f"{at(starts, 'm')}"},
        # a door stays closed in one month of sixteen, never twice in a row
        {"closed": _closed(seed, "m"), "closed_before": _closed(seed, "(m - 1L)")},
        "head OR (NOT closed AND since >= connected_day)",
        *tenant(utility),
        {"from_month": "m - if(closed_before, 2L, 1L)"},
        {"moved_to": _moved(utility, "m"), "moved_from": _moved(utility, "from_month")},
        {"base": f"{bits('hg', 11, 30)} % {10**DIGITS}L"},
        _texts(utility),
    ]


def burns_gas(utility: Utility) -> str:
    """SQL: whether a premise has a gas meter: one in eight."""
    return f"{bits(draw(utility.seed, 'gas', 'p'), 0, 3)} = 0"


def _closed(seed: int, month: str) -> str:
    return f"({month} > 0L AND {month} % 2L = 1L AND {bits(draw(seed, 'door', 'p', month), 0, 3)} = 0)"


def _moved(utility: Utility, month: str) -> str:
    """SQL of the m3 that the meter has counted by its read of a month since the beginning (0 before it)."""
    first = utility.almanac.month_start(0).month - 1
    need = at(int_array(_NEED), f"pmod(k + {first}L, 12L)")
    noise = share(draw(utility.seed, "gas use", "p", "k"), 0, 10)
    use = f"cast({need} * (0.4D + 1.2D * {share('hg', 41, 10)}) * (0.75D + 0.5D * {noise}) as bigint)"
    return f"aggregate(sequence(0L, greatest({month}, 0L)), 0L, (sum, k) -> sum + {use}) * if({month} < 0L, 0L, 1L)"


def _texts(utility: Utility) -> Layer:
    """The raw columns as the file shows them, and the row's key for the ledger."""
    size = 10**DIGITS
    meter = utility.gas_meter_name()
    day = "cast(date_from_unix_date(cast(d as int)) as string)"
    before = "cast(add_months(date_from_unix_date(cast(d as int)), cast(from_month - m as int)) as string)"

    def index(moved: str) -> str:
        return f"lpad(cast((base + {moved}) % {size}L as string), {DIGITS}, '0')"

    return {
        "meter_id": meter,
        "customer_id": "if(customer is null, '', cast(customer as string))",
        "previous_date": before,
        "read_date": day,
        "previous_index": index("moved_from"),
        "current_index": index("moved_to"),
        "usage_m3": "cast(moved_to - moved_from as string)",
        "quality": "'A'",
        "row_key": f"concat({meter}, '|', {day})",
        "copy": "0",
    }

