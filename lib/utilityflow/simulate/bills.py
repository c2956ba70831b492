"""Billing: one file of bills a month, a line of a bill per record, between a header record and a trailer with control totals.

What it knows in its own way: customers by a number of twelve digits with two check digits (and a few not at all any more),
accounts by premise and occupant. What a bill is: simulate/accounts.py (who and when) and simulate/charges.py (how much).
"""

from __future__ import annotations

from utilityflow.simulate.accounts import (
    CANCELLATION,
    CYCLES,
    bill_number,
    cancels,
    period,
    premise,
    rest_of_site,
    site,
    tenant_digits,
)
from utilityflow.simulate.charges import DEMAND, ENERGY, FIXED, LINES, SOLAR, bill
from utilityflow.simulate.defects import Planter, Quirk, Scope, Spec
from utilityflow.simulate.draws import at, bits, draw, text_array
from utilityflow.simulate.extract import CHUNK, Extract, Trailer, layered, premise_files
from utilityflow.simulate.model import FIRST_METER_NUMBER, Layer, Utility
from utilityflow.simulate.network import point_name
from utilityflow.simulate.tariffs import SOLAR_PRICE, TIERS

SYSTEM, FEED = "billing", "cis_bills"
COLUMNS = (
    "bill_no", "line_no", "doc_type", "cancels_bill_no", "account_no", "cust_no", "meter_no", "charge_code", "description",
    "rate_code", "quantity", "unit", "price", "amount", "read_type", "bill_date", "due_date", "period_from", "period_to",
    "service_point",
)  # fmt: skip
KEY = ("bill_no", "line_no")  # the raw columns of which the ledger's row_key is made
ROW_BYTES = 184
LINES_A_BILL = 4.1
_LOST = 3  # of 1,024 accounts no longer know their customer
_NUMBER = "concat(lpad(cast(customer as string), 12, '0'), '-', lpad(cast(customer % 97L as string), 2, '0'))"
_CODES = ("FIX", "ENE", "ENE", "ENE", "DEM", "ADJ", "ADJ", "CRD", "FEE", "FEE", "TAX")
_WORDS = (
    "Customer charge", "Energy step 1", "Energy step 2", "Energy step 3", "Demand", "True-up of an estimated bill",
    "Solar energy sent to the grid", "Low-income discount", "Late payment", "Returned payment", "Tax",
)  # fmt: skip


def bills_extract(utility: Utility, months: range, specs: tuple[Spec, ...]) -> Extract:
    """The bills issued in some months (indexes from 0); one partition and file per month and chunk."""
    chunks, premises = premise_files(utility, months, "i")
    planter = Planter(utility.seed, SYSTEM, specs, _scopes(months), COLUMNS, quirks=_quirks(utility))
    return Extract(
        system=SYSTEM,
        feed=FEED,
        query=layered(premises, _layers(utility, planter)),
        files=tuple(
            _file_name(utility.almanac.month_start(m).strftime("%Y-%m"), first, utility.premises(m)) for m, first in chunks
        ),
        planter=planter,
        expected_rows=round(sum(utility.premises(m) * LINES_A_BILL for m in months)),
        row_bytes=ROW_BYTES,
        whole_stage=False,
        form="csv",
        headers=tuple(_header(utility.almanac.month_start(m).strftime("%Y-%m"), first) for m, first in chunks),
        trailer=Trailer("TRL", "amount"),
    )


def _header(month: str, first: int) -> str:
    """Kind of the file, the month in which its bills were issued, which part of the month it is (from 1)."""
    return f"HDR,{FEED},{month},{first // CHUNK + 1:02d}"


def _file_name(month: str, first: int, premises: int) -> str:
    return f"{FEED}_{month}" + (f"_part{first // CHUNK + 1:02d}" if premises > CHUNK else "")


def _scopes(months: range) -> dict[str, Scope]:
    years = {m // 12 for m in months}
    return {
        "clerk": Scope("cycle_no", (tuple(range(CYCLES)),)),  # each cycle has its clerk
        "file": Scope("i", tuple(tuple(range(y * 12, y * 12 + 12)) for y in sorted(years))),
    }


def _layers(utility: Utility, planter: Planter) -> list[Layer | str]:
    documents = f"CASE WHEN head THEN array(0L) WHEN {cancels(utility, 'i')} THEN array(0L, 1L, 2L, 3L) ELSE array(0L, 1L) END"
    return [
        *site(utility),
        # for all that the file holds of a premise, and drawn first: so the ledger looks at the affected premises only
        {"defect": planter.drawn("p", "i")},
        *rest_of_site(utility),
        {"doc": f"explode({documents})"},
        *period(utility),
        *bill(utility),
        _of_a_bill(utility),
        *_lines(),
        _texts(),
        {"row_key": "concat(bill_no, '|', line_no)", "copy": "0"},
    ]


def _of_a_bill(utility: Utility) -> Layer:
    """What all lines of a bill show."""
    letters = bill_number("b", "doc", utility)
    meter = f"{FIRST_METER_NUMBER}L + if(exchanged >= 0 AND exchanged < to_day, {utility.stride}L, 0L) + p"
    days = {"bill_date": "bill_day", "due_date": "due_day", "period_from": "from_day", "period_to": "(to_day - 1L)"}
    return {
        "bill_no": letters,
        "doc_type": f"if(doc = {CANCELLATION}, 'C', 'B')",
        "cancels_bill_no": f"if(doc = {CANCELLATION}, {bill_number('b', '0L', utility)}, '')",
        "account_no": f"concat('AC-', {premise()}, '-', {tenant_digits()})",
        "cust_no": f"if({_lost(utility)}, '', {_NUMBER})",
        "meter_no": f"concat('M', {meter})",
        "service_point": point_name("p"),
        "rate_code": utility.rate(),
        "read_type": "if(estimated, 'E', 'A')",
        **{name: f"cast(date_from_unix_date(cast({day} as int)) as string)" for name, day in days.items()},
        "kinds": f"if(head, array({FIXED}), array_remove(array({_kinds()}), 0))",
    }


def _lost(utility: Utility) -> str:
    """SQL: whether the account no longer knows its customer."""
    return f"{bits(draw(utility.seed, 'account', 'p', 'held'), 0, 10)} < {_LOST}"


def _quirks(utility: Utility) -> dict[str, Quirk]:
    """What billing does by itself."""
    return {"lost_customer": Quirk(f"NOT head AND {_lost(utility)}", clean=_NUMBER, told="cust_no")}


def _kinds() -> str:
    """SQL of the numbers of the lines that a bill has; the fixed charge stands on each."""
    named = list(enumerate(LINES, 1))
    return ", ".join(str(FIXED) if n == FIXED else f"if(cents_{name} = 0L, 0, {n})" for n, name in named)


def _lines() -> list[Layer]:
    """A row for each line: ``line`` from 1, ``kind``, ``minus`` (of a cancellation all is taken back), ``cents``."""
    amounts = " ".join(f"WHEN {n} THEN cents_{name}" for n, name in enumerate(LINES, 1))
    return [
        {"line": "explode(sequence(1, size(kinds)))"},
        {"kind": "kinds[line - 1]", "minus": f"if(doc = {CANCELLATION}, -1L, 1L)"},
        {"cents": f"minus * CASE kind {amounts} END"},
    ]


def _texts() -> Layer:
    """The raw columns of a line as the file shows them."""
    tiers = range(ENERGY, ENERGY + TIERS)
    quantities = " ".join(f"WHEN {n} THEN {decimal(f'minus * wh_{n - ENERGY + 1}', 3)}" for n in tiers)
    prices = " ".join(f"WHEN {n} THEN {decimal(f'price_{n - ENERGY + 1}', 5)}" for n in tiers)
    units = {FIXED: "day", **dict.fromkeys(tiers, "kWh"), DEMAND: "kW", SOLAR: "kWh"}
    return {
        "line_no": "cast(line as string)",
        "charge_code": at(text_array(_CODES), "kind - 1"),
        "description": f"concat({at(text_array(_WORDS), 'kind - 1')}, if(final AND kind = {FIXED}, ' of the last bill', ''))",
        "quantity": f"""CASE kind WHEN {FIXED} THEN cast(minus * days as string) {quantities}
            WHEN {DEMAND} THEN {decimal("minus * peak", 2)} WHEN {SOLAR} THEN {decimal("-minus * sent", 3)} ELSE '' END""",
        "unit": f"CASE kind {' '.join(f'WHEN {n} THEN {u!r}' for n, u in units.items())} ELSE '' END",
        "price": f"""CASE kind WHEN {FIXED} THEN {decimal("fixed", 2)} {prices}
            WHEN {DEMAND} THEN {decimal("demand_price", 2)} WHEN {SOLAR} THEN {decimal(f"{SOLAR_PRICE}L", 5)} ELSE '' END""",
        "amount": decimal("cents", 2),
    }


def decimal(value: str, places: int) -> str:
    """SQL of the text of a whole number of 1/10**places, with its point."""
    size, digits = f"abs({value})", f"lpad(cast(abs({value}) % {10**places}L as string), {places}, '0')"
    return f"concat(if({value} < 0L, '-', ''), {size} div {10**places}L, '.', {digits})"
