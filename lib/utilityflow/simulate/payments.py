"""Payment processing: one file of JSON lines a day with what was booked on it: payments, returns and refunds.

A payment's amount follows from its bill's total, which is computed anew (simulate/charges.py); which day brings what follows
from the household's habit alone (simulate/payers.py), so a day first finds the bills that it concerns and then computes them.
Wrong bills are not paid, but those that replace them; of two occupants of a premise and month both pay as the later one does.
"""

from __future__ import annotations

from utilityflow.simulate.accounts import (
    LAST_BILL,
    REBILL,
    bill_number,
    cancels,
    period,
    premise,
    reading_day,
    rest_of_site,
    site,
    tenant_digits,
)
from utilityflow.simulate.bills import decimal
from utilityflow.simulate.charges import bill
from utilityflow.simulate.defects import Planter, Quirk, Scope, Spec
from utilityflow.simulate.draws import at, bits, draw, int_array, text_array
from utilityflow.simulate.extract import Extract, layered, one_file_each
from utilityflow.simulate.model import Layer, Utility
from utilityflow.simulate.payers import (
    BEHIND,
    CC,
    CSH,
    GIVEN_BACK,
    HALVES,
    OVER,
    PAID_AGAIN,
    PART,
    RETURNED,
    SECOND_HALF,
    SECOND_PART,
    WAYS,
    paying,
)

SYSTEM, FEED = "payment_processing", "pay_payments"
COLUMNS = (
    "payment_ref", "kind", "related_ref", "account", "customer_no", "bill_no", "amount", "fee", "currency", "method", "channel",
    "reason", "received_at", "posted_on",
)  # fmt: skip
KEY = ("payment_ref",)  # the raw column of which the ledger's row_key is made
NUMBERS = frozenset({"amount", "fee"})
ROW_BYTES = 340
# what a day can bring of a bill
PAYMENT, SECOND, RETURN, AGAIN, REFUND, RESENT = range(1, 7)
BACK = range(3)  # months whose bills a day can concern: its own and the two before
_TWICE, _RESENT = 3, 6  # of 1,024 payments: sent twice; from there on sent again the next day under another reference
# what the processor does by itself; the first payment's reference ends in its kind of event
QUIRKS = {
    "repeated": Quirk(f"copy > 0 AND event = {PAYMENT}", where=f"event = {PAYMENT} AND NOT sent_back AND doubled < {_TWICE}"),
    "resent": Quirk(f"event = {RESENT}", clean=f"concat(left(payment_ref, length(payment_ref) - 1), '{PAYMENT}')"),
}


def payments_extract(utility: Utility, months: range, specs: tuple[Spec, ...]) -> Extract:
    """What was booked in some months (indexes from 0); one partition and file a day. A day without payments has no file."""
    almanac = utility.almanac
    first, last = almanac.month_starts[months.start], almanac.month_starts[months.stop]
    days = [almanac.days[d - almanac.first_day] for d in range(first, last)]
    rows = utility.premises(months[-1])
    starts = almanac.month_starts
    scopes = {
        "method": Scope("way", (tuple(range(len(WAYS))),)),
        "file": Scope("f", tuple(tuple(range(starts[m], starts[m + 1])) for m in months)),
    }
    planter = Planter(utility.seed, SYSTEM, specs, scopes, COLUMNS, quirks=QUIRKS)
    return Extract(
        system=SYSTEM,
        feed=FEED,
        query=layered(one_file_each(len(days), rows, "p"), _layers(utility, planter, f"file_no + {first}L")),
        files=tuple(f"{FEED}_{day.isoformat()}" for day in days),
        planter=planter,
        expected_rows=round(sum(utility.premises(m) * (1.02 if m else 0.4) for m in months)),
        row_bytes=ROW_BYTES,
        form="jsonl",
        numbers=NUMBERS,
    )


def _layers(utility: Utility, planter: Planter, file_day: str) -> list[Layer | str]:
    # a lambda is not compiled: what comes before it is one small loop over all premises of a day
    documents = f"filter(array(0L, 1L, 3L), d -> d = 0L OR NOT head AND (d = 1L OR {cancels(utility, 'i')}))"
    month = at(int_array(utility.almanac.month_of_day), f"f - {utility.almanac.first_day}L")
    return [
        {"f": file_day},
        {"k": f"cast({month} as bigint)"},
        *site(utility),
        *_due_today(utility),
        {"defect": planter.drawn("p", "f")},
        *rest_of_site(utility),
        {"doc": f"explode({documents})"},
        *period(utility, f"NOT wrong OR doc = {REBILL}"),
        *bill(utility),
        *_amounts(),
        {"copy": f"explode({_copies()})"},
        {"moment": draw(utility.seed, "moment", "p", "f")},
        *_texts(utility),
    ]


def _copies() -> str:
    """SQL of an array with 0 for the first record of a payment and 1 for a repeat; none where there is nothing to pay."""
    return f"""CASE WHEN head THEN array(0) WHEN total <= 0L OR cents = 0L THEN cast(array() as array<int>)
        WHEN event = {PAYMENT} AND NOT sent_back AND doubled < {_TWICE} THEN array(0, 1)
        WHEN event = {RESENT} THEN array(1) ELSE array(0) END"""


def _due_today(utility: Utility) -> list[Layer | str]:
    """From ``site``, day ``f`` of month ``k``: the issue months ``i`` whose bills bring something, and how they are paid."""
    names = [f"_{n}" for n in BACK]
    ways = [paying(utility, f"(k - {n}L)", name) for n, name in zip(BACK, names, strict=True)]
    merged = [{k: v for layer in layers for k, v in layer.items()} for layers in zip(*ways, strict=True)]
    billed = {name: reading_day(utility, f"(k - {n}L)") for n, name in zip(BACK, names, strict=True)}

    def of(column: str) -> str:
        cases = " ".join(f"WHEN {n} THEN {column}_{n}" for n in BACK)
        return f"CASE back {cases} END"

    none = " + ".join(f"event_{n}" for n in BACK) + " = 0"
    found = f"array_remove(array({', '.join(f'if(event_{n} > 0, {n}, -1)' for n in BACK)}), -1)"
    return [
        *merged,
        {f"since{name}": f"f - {day} - lag{name}" for name, day in billed.items()},
        {f"event{name}": f"if(k < {n}L, 0, {_event(name)})" for n, name in zip(BACK, names, strict=True)},
        # not a filter: the optimizer would push it down, and write out each column on its way
        {"back": f"explode(CASE WHEN head THEN array(0) WHEN {none} THEN cast(array() as array<int>) ELSE {found} END)"},
        {"i": "k - back", "sent_back": of("returned"), **{name: of(name) for name in ("event", "chance", "habit", "way")}},
        {"doubled": bits("chance", 16, 10)},
    ]


def _event(name: str) -> str:
    """SQL of what happens ``since`` days after the payment of a bill: one of the kinds above, or 0."""
    since, habit, chance = f"since{name}", f"habit{name}", f"chance{name}"
    doubled = bits(chance, 16, 10)
    return f"""CASE WHEN {since} < 0L OR {since} > {GIVEN_BACK}L THEN 0 WHEN {since} = 0L THEN {PAYMENT}
        WHEN returned{name} THEN CASE {since} WHEN {RETURNED}L THEN {RETURN} WHEN {PAID_AGAIN}L THEN {AGAIN} ELSE 0 END
        WHEN {since} = if({habit} = {PART}, {SECOND_PART}L, {SECOND_HALF}L) AND {habit} IN ({PART}, {HALVES}) THEN {SECOND}
        WHEN {since} = {GIVEN_BACK}L AND {habit} = {OVER} AND {bits(chance, 26, 1)} = 0 THEN {REFUND}
        WHEN {since} = 1L AND {doubled} >= {_TWICE} AND {doubled} < {_RESENT} THEN {RESENT} ELSE 0 END"""


def _amounts() -> list[Layer]:
    """``first_cents``: the payment of the bill; ``cents``: of the row, signed."""
    return [
        {
            "first_cents": f"""CASE habit WHEN {PART} THEN total * (40L + {bits("chance", 40, 8)} % 41L) div 100L
                WHEN {HALVES} THEN total div 2L WHEN {OVER} THEN (total div 1000L + 1L) * 1000L
                WHEN {BEHIND} THEN total * 6L div 10L ELSE total END"""
        },
        {
            "cents": f"""CASE event WHEN {SECOND} THEN total - first_cents WHEN {RETURN} THEN -first_cents
                WHEN {REFUND} THEN total - first_cents ELSE first_cents END"""
        },
    ]


def _texts(utility: Utility) -> list[Layer]:
    """The raw columns as the file shows them, and the row's key for the ledger."""
    codes, channels = text_array([w.code for w in WAYS]), text_array([w.channel for w in WAYS])
    fees, delays = int_array([w.fee for w in WAYS]), int_array([w.delay for w in WAYS])
    names = int_array([d.year % 100 * 100 + d.month for d in map(utility.almanac.month_start, range(utility.almanac.months))])
    place = f"CASE doc WHEN {LAST_BILL} THEN 2 WHEN {REBILL} THEN 3 ELSE 1 END"
    reference = f"concat('PY', lpad(cast({at(names, 'b')} as string), 4, '0'), {premise()}, {place}"
    day, clock = "date_from_unix_date(cast({} as int))", "06:00:00"
    two = text_array([f"{n:02d}" for n in range(60)])
    hour, minute, second = (at(two, f"{low}L + {bits('moment', n * 6, 6)} % {size}L") for n, low, size in
                            ((0, 7, 14), (1, 0, 60), (2, 0, 60)))  # fmt: skip
    return [
        {"by": f"if(event = {AGAIN}, {CC}, way)", "paid_in": f"event IN ({PAYMENT}, {SECOND}, {AGAIN}, {RESENT})"},
        {
            "payment_ref": f"{reference}, event)",
            "kind": f"CASE event WHEN {RETURN} THEN 'REV' WHEN {REFUND} THEN 'RFD' ELSE 'PAY' END",
            "related_ref": f"if(paid_in, '', {reference}, {PAYMENT}))",
            "account": f"concat({premise()}, {tenant_digits()})",
            "customer_no": f"if(by = {CSH}, '', concat('C', customer))",  # at a kiosk nobody is asked who pays
            "bill_no": bill_number("b", "doc", utility),
            "amount": decimal("cents", 2),
            "fee": f"if(paid_in, {decimal(at(fees, 'by'), 2)}, '0.00')",
            "currency": "'USD'",
            "method": at(codes, "by"),
            "channel": at(channels, "by"),
            "reason": f"CASE event WHEN {RETURN} THEN 'NSF' WHEN {REFUND} THEN 'CREDIT' ELSE '' END",
            "received_at": f"""concat(cast({day.format(f"(f - {at(delays, 'by')})")} as string), ' ',
                if(by = 0, '{clock}', concat({hour}, ':', {minute}, ':', {second})))""",
            "posted_on": f"cast({day.format('f')} as string)",
        },
        {"row_key": "payment_ref"},
    ]
