"""The payments of a small utility, against its bills: amounts, days, what goes back, what comes twice."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from utilityflow.simulate.extract import JSON_NUMBER
from utilityflow.simulate.payers import LONGEST, RETURNED, WAYS

from .conftest import Money, Row


@pytest.fixture(scope="module")
def totals(money: Money) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for row in money.bills:
        found[row["bill_no"]] += Decimal(row["amount"])
    return found


def paid_in(row: Row) -> bool:
    return row["kind"] == "PAY"


def test_every_payment_names_a_bill_of_its_account(money: Money) -> None:
    bills = {r["bill_no"]: r for r in money.bills}
    cancelled = {r["cancels_bill_no"] for r in money.bills}
    for row in money.payments:
        bill = bills[row["bill_no"]]
        assert "AC-" + row["account"][:8] + "-" + row["account"][8:] == bill["account_no"]
        assert row["bill_no"] not in cancelled and row["bill_no"][0] in "BR"
        if row["customer_no"] and bill["cust_no"]:
            assert row["customer_no"][1:] == bill["cust_no"][3:12]
        assert (row["customer_no"] == "") == (row["method"] == "CSH")
        posted, billed = (dt.date.fromisoformat(t) for t in (row["posted_on"], bill["bill_date"]))
        assert row["_file"] == f"pay_payments_{row['posted_on']}.jsonl"
        assert 0 < (posted - billed).days <= LONGEST
        delay = {w.code: w.delay for w in WAYS}[row["method"]]
        assert posted - dt.date.fromisoformat(row["received_at"][:10]) == dt.timedelta(days=delay)


def test_amounts_are_exact_and_within_the_bill(money: Money, totals: dict[str, Decimal]) -> None:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    over = set()
    for row in money.payments:
        amount = Decimal(row["amount"])
        assert re.fullmatch(r"-?[0-9]+\.[0-9]{2}", row["amount"]) and re.match(JSON_NUMBER, row["amount"])
        assert (amount > 0) == paid_in(row)
        assert totals[row["bill_no"]] > 0
        sums[row["bill_no"]] += amount
        if amount > totals[row["bill_no"]]:
            assert amount - totals[row["bill_no"]] <= 10, "rounded up to the next ten"
            over.add(row["bill_no"])
    twice = {r["bill_no"] for r in money.payments if r["payment_ref"][-1] == "6"}
    twice |= {r["bill_no"] for r, n in repeats(money)}
    for bill, total in sums.items():
        assert total <= totals[bill] or bill in over | twice
    assert Counter(sums[b] == totals[b] for b in sums)[True] > 0.7 * len(sums)


def repeats(money: Money) -> list[tuple[Row, int]]:
    counts = Counter(json.dumps(r, sort_keys=True) for r in money.payments)
    return [(json.loads(text), n) for text, n in counts.items() if n > 1]


def test_money_that_goes_back_names_what_came_in(money: Money, totals: dict[str, Decimal]) -> None:
    by_ref = {r["payment_ref"]: r for r in money.payments}
    returns = [r for r in money.payments if r["kind"] == "REV"]
    refunds = [r for r in money.payments if r["kind"] == "RFD"]
    assert returns
    for row in returns + refunds:
        first = by_ref[row["related_ref"]]
        assert first["bill_no"] == row["bill_no"] and paid_in(first)
        back, came = Decimal(row["amount"]), Decimal(first["amount"])
        if row["kind"] == "REV":
            assert (back, row["reason"], row["method"]) == (-came, "NSF", first["method"]) and row["method"] in ("DD", "CHK")
            gone = dt.date.fromisoformat(row["posted_on"]) - dt.date.fromisoformat(first["posted_on"])
            assert gone.days == RETURNED
        else:
            assert back == totals[row["bill_no"]] - came < 0
    again = {r["bill_no"]: r for r in money.payments if r["payment_ref"][-1] == "4"}
    assert all(Decimal(r["amount"]) > 0 and r["method"] == "CC" for r in again.values())
    assert all(r["related_ref"] == "" and r["reason"] == "" for r in money.payments if paid_in(r))


def test_repeats(money: Money) -> None:
    """Sent twice in a file, or again the next day under another reference."""
    same = repeats(money)
    assert all(n == 2 for _, n in same)
    references = Counter(r["payment_ref"] for r in money.payments)
    assert sum(n > 1 for n in references.values()) == len(same), "a reference stands for one payment"
    near = [r for r in money.payments if r["payment_ref"][-1] == "6"]
    by_ref = {r["payment_ref"]: r for r in money.payments}
    assert same or near
    for row in near:
        first = by_ref[row["payment_ref"][:-1] + "1"]
        assert (row["amount"], row["bill_no"]) == (first["amount"], first["bill_no"])
        assert dt.date.fromisoformat(row["posted_on"]) - dt.date.fromisoformat(first["posted_on"]) == dt.timedelta(days=1)


def test_habits(money: Money, totals: dict[str, Decimal]) -> None:
    bills = {r["bill_no"]: r for r in money.bills}
    early = {b for b, r in bills.items() if "2024-02" in r["_file"] and totals[b] > 0 and b[0] == "B"}
    days = Counter()
    for row in money.payments:
        if row["bill_no"] in early and paid_in(row):
            late = dt.date.fromisoformat(row["posted_on"]) - dt.date.fromisoformat(bills[row["bill_no"]]["due_date"])
            days["on the day" if late.days == 0 else "late" if late.days > 0 else "early"] += 1
    assert 0.3 < days["on the day"] / sum(days.values()) < 0.5 and days["early"] > days["late"] > 10
    paid = {r["bill_no"] for r in money.payments}
    assert 0.9 * len(early) < len(early & paid) < len(early), "some never pay"
    methods = Counter(r["method"] for r in money.payments)
    assert set(methods) == {w.code for w in WAYS} and methods["DD"] == max(methods.values())
    fees = {(r["method"], r["fee"]) for r in money.payments if paid_in(r)}
    assert fees == {(w.code, f"{w.fee // 100}.{w.fee % 100:02d}") for w in WAYS}


def test_fees_follow_the_bill_before(money: Money) -> None:
    """Who was sent back pays for it with the next bill."""
    charged = {(r["account_no"], r["bill_date"]) for r in money.bills if r["description"] == "Returned payment"}
    bills = {r["bill_no"]: r for r in money.bills}
    sent_back = {bills[r["bill_no"]]["account_no"] for r in money.payments if r["kind"] == "REV"}
    assert {account for account, _ in charged} <= sent_back
    assert charged
