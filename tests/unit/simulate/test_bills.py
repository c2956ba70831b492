"""The bills of a small utility, against its reads and a second computation of the tariffs in exact decimals."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import pytest

from utilityflow.simulate.accounts import CYCLES, cycle_days
from utilityflow.simulate.almanac import PROFILES, Almanac, is_rest_day
from utilityflow.simulate.extract import Trailer
from utilityflow.simulate.landing import add_trailers
from utilityflow.simulate.tariffs import NO_LIMIT, TARIFFS, cents, energy_cents, tariff_columns, tiers

from .conftest import SEED, START, Landed, Money, Row

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

SYSTEMS = ("billing", "payment_processing")
CENT = Decimal("0.01")
TARIFF = {t.code: t for t in TARIFFS}
TAX = {"RES": 25, "COM": 80, "IND": 80, "MUN": 0, "AGR": 40}
CLASS = {rate: p.customer_class for p in PROFILES for rate in p.rates}


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def by_bill(rows: list[Row]) -> dict[str, list[Row]]:
    return {number: list(lines) for number, lines in groupby(rows, lambda r: r["bill_no"])}


def kwh(lines: list[Row]) -> Decimal:
    return sum((Decimal(r["quantity"]) for r in lines if r["charge_code"] == "ENE"), Decimal(0))


def days_of(lines: list[Row]) -> list[str]:
    first, last = day(lines[0]["period_from"]), day(lines[0]["period_to"])
    return [(first + dt.timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


def wrong(money: Money) -> set[str]:
    """Bills that are cancelled later, or would be in the month after the last."""
    return {r["cancels_bill_no"] for r in money.bills if r["cancels_bill_no"]}


def half_up(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


# -- the files ---------------------------------------------------------------------------------------------------------


def test_headers_and_trailers_agree_with_their_files(money: Money) -> None:
    assert money.headers == {f"cis_bills_2024-0{m}.csv": f"HDR,cis_bills,2024-0{m},01" for m in (2, 3, 4)}
    assert sorted(money.trailers) == [f"cis_bills_2024-0{m}.csv" for m in (2, 3, 4)]
    for name, (prefix, rows, total) in money.trailers.items():
        lines = [r for r in money.bills if r["_file"] == name]
        assert (prefix, int(rows), Decimal(total)) == ("TRL", len(lines), sum(Decimal(r["amount"]) for r in lines))
    assert money.landed.summary.rows["cis_bills"] == len(money.bills)
    assert money.landed.summary.rows["pay_payments"] == len(money.payments)


def test_a_trailer_adds_up_what_is_written(tmp_path: Path) -> None:
    file = tmp_path / "bills.csv"
    file.write_text('name,amount\n"a, b",12.30\nc,-0.10\nd,#5.00\ne,\nf,1230\n', encoding="utf-8")
    add_trailers([file], Trailer("TRL", "amount"), ("name", "amount"))
    assert file.read_text("utf-8").splitlines()[-1] == "TRL,5,1242.20"
    headed = tmp_path / "headed.csv"
    headed.write_text('HDR,x\nname,amount\n"a, b",12.30\n', encoding="utf-8")
    add_trailers([headed], Trailer("TRL", "amount"), ("name", "amount"), skip=1)
    assert headed.read_text("utf-8").splitlines()[-1] == "TRL,1,12.30"


def test_a_month_alone_has_the_same_bytes(money: Money, simulated: Callable[..., Landed]) -> None:
    alone = simulated(customers=400, months=5, only_month=2, profile={}, systems=SYSTEMS)
    for feed in ("cis_bills", "pay_payments"):
        here = {f.name: f.read_bytes() for f in money.landed.files(feed) if "2024-03" in f.name}
        assert here == {f.name: f.read_bytes() for f in alone.files(feed)}
        assert here


@pytest.fixture(scope="module")
def dirty(simulated: Callable[..., Landed]) -> Money:
    """April with the shipped defects, ten times as often as shipped where they are rare."""
    from utilityflow.simulate.defects import load_profile

    shipped = load_profile()
    profile = {
        system: [{**spec.__dict__, "rate": max(spec.rate, 0.004)} for spec in getattr(shipped, system) if not spec.whole]
        for system in SYSTEMS
    }
    return Money.of(simulated(customers=400, months=3, only_month=3, profile=profile, systems=SYSTEMS))


@pytest.mark.parametrize("feed", ["cis_bills", "pay_payments"])
def test_defects_are_on_the_ledger_and_nowhere_else(feed: str, money: Money, dirty: Money) -> None:
    rows, key = ("bills", ("bill_no", "line_no")) if feed == "cis_bills" else ("payments", ("payment_ref",))
    clean = [r for r in getattr(money, rows) if "2024-04" in r["_file"]]
    pairs = list(zip(clean, getattr(dirty, rows), strict=True))
    found = Counter(
        (a["_file"], "|".join(a[k] for k in key), c, a[c], b[c]) for a, b in pairs for c in a if a[c] != b[c]
    )
    ledger = dirty.landed.rows(feed, "defects")
    told = Counter((e["file"], e["row_key"], e["column"], e["clean_value"], e["planted_value"]) for e in ledger)
    assert found == told
    assert len({(e["kind"], e["column"]) for e in ledger}) >= 5
    if feed == "cis_bills":  # the totals are those of what was written
        ((_, count, total),) = dirty.trailers.values()
        numbers = [Decimal(b["amount"]) for _, b in pairs if re.fullmatch(r"-?[0-9.]+(E-?\d+)?", b["amount"])]
        assert (int(count), Decimal(total)) == (len(pairs), sum(numbers))


# -- periods and energy ------------------------------------------------------------------------------------------------


def test_cycles_spread_over_business_days() -> None:
    almanac = Almanac(SEED, START, 3, "America/New_York")
    days = cycle_days(almanac)
    assert len(days) == 3 * CYCLES
    for month in range(3):
        here = [dt.date(1970, 1, 1) + dt.timedelta(days=d) for d in days[month * CYCLES : (month + 1) * CYCLES]]
        assert {d.month for d in here} == {START.month + month} and here == sorted(here)
        assert len(set(here)) >= 19 and not any(is_rest_day(d) for d in here)


def test_bills_of_a_premise_follow_each_other(money: Money) -> None:
    bills: dict[str, list[list[Row]]] = defaultdict(list)
    for number, lines in by_bill(money.bills).items():
        if number.startswith("B"):
            bills[number[6:14]].append(lines)
    gaps = 0
    for found in bills.values():
        found.sort(key=lambda lines: lines[0]["period_from"])
        for (one, *_), (two, *_) in pairwise(found):
            gap = (day(two["period_from"]) - day(one["period_to"])).days - 1
            assert gap >= 0, "no day is billed twice"
            # or between two seasons of one
            assert gap == 0 or one["account_no"] != two["account_no"] or gap >= 60, "who lives there is billed each day"
            gaps += gap > 0
    assert gaps
    assert Counter(len(found) for found in bills.values()).most_common(1)[0][0] == 3
    issued = [r for r in money.bills if r["bill_no"][0] == "B"]
    assert all(r["bill_date"][:7] == r["_file"][10:17] for r in money.bills), "issued in the file's month"
    assert all(day(r["due_date"]) - day(r["bill_date"]) == dt.timedelta(days=21) for r in money.bills)
    assert all(r["period_to"] < r["bill_date"] for r in issued)


def test_the_energy_of_a_read_bill_is_the_sum_of_its_reads(money: Money) -> None:
    used: dict[str, dict[str, Decimal]] = defaultdict(dict)
    sent: dict[str, dict[str, Decimal]] = defaultdict(dict)
    for row in money.landed.rows("ami_daily_reads"):
        if row["quality"] == "A":
            (used if row["register"] == "1.8.0" else sent)[row["meter_id"]][row["read_date"]] = Decimal(row["kwh"])
    bad, checked, solar = wrong(money), 0, 0
    last_month = max(r["_file"] for r in money.bills)
    for number, lines in by_bill(money.bills).items():
        # which bills of the last month are wrong shows in the month after
        unknown = number in bad or (number[0] == "B" and lines[0]["_file"] == last_month)
        if number[0] == "X" or unknown or lines[0]["read_type"] == "E":
            continue
        reads, days = used[lines[0]["meter_no"]], days_of(lines)
        if not set(days) <= reads.keys():
            continue  # a read that never came, or two meters
        assert kwh(lines) == sum(reads[d] for d in days), number
        checked += 1
        credit = [r for r in lines if r["description"].startswith("Solar")]
        trued = any(r["description"].startswith("True-up") for r in lines)
        if credit and not trued and set(days) <= sent[lines[0]["meter_no"]].keys():
            assert -Decimal(credit[0]["quantity"]) == sum(sent[lines[0]["meter_no"]][d] for d in days), number
            solar += 1
    assert checked > 500 and solar > 20


def test_the_day_of_an_exchange_counts_for_both_meters(money: Money) -> None:
    """An exchange splits a day between two meters, each cut to whole Wh; the bill has them both."""
    reads: dict[tuple[str, str], Decimal] = {}
    for row in money.landed.rows("ami_daily_reads"):
        if row["register"] == "1.8.0" and row["quality"] == "A":
            reads[row["meter_id"], row["read_date"]] = Decimal(row["kwh"])
    stride = 2 * 400 + 10_000  # Utility.stride
    both = [(meter, d) for meter, d in reads if (f"M{int(meter[1:]) + stride}", d) in reads]
    assert both
    checked, bad = 0, wrong(money)
    for number, lines in by_bill(money.bills).items():
        old = f"M{200_000_000 + int(number[6:14])}"
        mine, days = [d for meter, d in both if meter == old], days_of(lines)
        if number[0] == "B" and number not in bad and mine and mine[0] in days and lines[0]["read_type"] == "A":
            new = f"M{int(old[1:]) + stride}"
            found = [reads[m, d] for d in days for m in (old, new) if (m, d) in reads]
            if len(found) == len(days) + 1 and "2024-04" not in lines[0]["_file"]:
                assert kwh(lines) == sum(found), number
                checked += 1
    assert checked


# -- money -------------------------------------------------------------------------------------------------------------


def test_amounts_are_quantity_times_price_and_sum_to_tax_and_total(money: Money) -> None:
    charges = Counter()
    for number, lines in by_bill(money.bills).items():
        assert [r["line_no"] for r in lines] == [str(n + 1) for n in range(len(lines))]
        sign = -1 if number[0] == "X" else 1
        tariff, net = TARIFF[lines[0]["rate_code"]], Decimal(0)
        for row in lines:
            charges[row["description"]] += 1
            amount = Decimal(row["amount"])
            assert amount == amount.quantize(CENT) and amount != 0
            if row["price"]:
                quantity = Decimal(row["quantity"])
                assert abs(amount) == half_up(abs(quantity) * Decimal(row["price"])), row
                assert (amount < 0) == (quantity < 0) == ((sign < 0) != (row["charge_code"] == "ADJ"))
            if row["charge_code"] != "TAX":
                net += sign * amount
        tax = sum((sign * Decimal(r["amount"]) for r in lines if r["charge_code"] == "TAX"), Decimal(0))
        assert tax == half_up(max(net, Decimal(0)) * TAX[CLASS[tariff.code]] / 1000), number
        energy = sum((sign * Decimal(r["amount"]) for r in lines if r["charge_code"] == "ENE"), Decimal(0))
        discount = sum((sign * Decimal(r["amount"]) for r in lines if r["charge_code"] == "CRD"), Decimal(0))
        assert discount == -half_up(energy * tariff.discount / 1000)
    assert {"Customer charge", "Energy step 1", "Energy step 2", "Energy step 3", "Demand", "Tax", "Late payment",
            "Low-income discount", "Solar energy sent to the grid", "True-up of an estimated bill"} <= charges.keys()  # fmt: skip


def test_tiers_fill_from_the_first_and_grow_with_the_days(money: Money) -> None:
    for lines in by_bill(money.bills).values():
        tariff, days = TARIFF[lines[0]["rate_code"]], len(days_of(lines))
        left, want = abs(kwh(lines)), []
        low = Decimal(0)
        for limit, price in tariff.tiers:
            high = Decimal(limit * 1000 * days // 30) / 1000
            want.append((min(left, high - low), Decimal(price) / 100_000))
            left, low = left - want[-1][0], high
        told = [(abs(Decimal(r["quantity"])), Decimal(r["price"])) for r in lines if r["charge_code"] == "ENE"]
        assert told == [(q, p) for q, p in want if half_up(q * p)]


@pytest.mark.parametrize("wh", [0, 1, 499_999, 500_000, 500_001, 999_999, 1_000_000, 1_000_001, 2_500_000])
def test_tiers_at_their_edges(wh: int, spark: SparkSession) -> None:
    prices = ", ".join(f"{e} AS {n}" for n, e in tariff_columns("0").items())
    parts = ", ".join(tiers(f"{wh}L", "30L"))
    money = energy_cents(f"{wh}L", "30L")
    row = spark.sql(f"SELECT array({parts}) AS parts, {money} AS cents FROM (SELECT {prices})").collect()[0]
    first, second = min(wh, 500_000), max(min(wh, 1_000_000) - 500_000, 0)
    assert row["parts"] == [first, second, wh - first - second]
    prices_kwh = [Decimal(p) / 100_000 for _, p in TARIFFS[0].tiers]
    exact = [half_up(Decimal(w) / 1000 * p) for w, p in zip(row["parts"], prices_kwh, strict=True)]
    assert Decimal(row["cents"]) / 100 == sum(exact)


def test_every_rate_has_a_tariff_and_half_cents_round_up(spark: SparkSession) -> None:
    assert set(CLASS) == set(TARIFF)
    assert all(t.tiers[-1][0] == NO_LIMIT for t in TARIFFS)
    # 1 kWh at 0.12500 is 12.5 cents
    assert spark.sql(f"SELECT {cents('1000L', '12500L')} AS up, {cents('999L', '12500L')} AS down").collect()[0][:] == (13, 12)


# -- what happens to bills ---------------------------------------------------------------------------------------------


def test_cancel_and_rebill(money: Money) -> None:
    bills = by_bill(money.bills)
    cancelled = [(n, lines) for n, lines in bills.items() if n[0] == "X"]
    assert 0 < len(cancelled) <= 0.02 * len(bills)
    for number, lines in cancelled:
        first, again = bills[lines[0]["cancels_bill_no"]], bills["R" + number[1:]]
        assert first[0]["bill_no"] == "B" + number[1:] and first[0]["_file"] < lines[0]["_file"] == again[0]["_file"]
        assert [Decimal(r["amount"]) for r in lines] == [-Decimal(r["amount"]) for r in first]
        assert sum(Decimal(r["amount"]) for r in first + lines) == 0
        assert [r["doc_type"] for r in (first[0], lines[0], again[0])] == ["B", "C", "B"]
        assert kwh(again) < kwh(first) and days_of(again) == days_of(first)
        assert again[0]["account_no"] == first[0]["account_no"]


def test_who_leaves_gets_a_last_bill(money: Money) -> None:
    last = {r["account_no"]: r for r in money.bills if r["description"].endswith(" of the last bill")}
    assert last
    for row in money.bills:
        end = last.get(row["account_no"], row)["period_to"]
        # a seasonal customer comes back
        assert row["period_from"] <= end or (day(row["period_from"]) - day(end)).days > 60
    assert all(r["bill_no"].endswith("-2") for r in last.values())


def test_an_estimate_is_put_right_by_the_next_bill(money: Money) -> None:
    bills = by_bill(money.bills)
    guessed = {(lines[0]["account_no"], lines[0]["period_to"]): lines for lines in bills.values() if lines[0]["read_type"] == "E"}
    trued = 0
    for number, lines in bills.items():
        if number[0] != "B":
            continue
        before = (day(lines[0]["period_from"]) - dt.timedelta(days=1)).isoformat()
        estimated = (lines[0]["account_no"], before) in guessed
        assert any(r["description"].startswith("True-up") for r in lines) <= estimated
        trued += estimated
        assert not (estimated and lines[0]["read_type"] == "E"), "never twice in a row"
    assert trued == sum("2024-04" not in lines[0]["_file"] for lines in guessed.values()) > 0


def test_a_bill_names_the_service_point_as_the_outage_system_does(money: Money) -> None:
    assert {r["service_point"] for r in money.bills} >= {f"SP{300_000_000 + p}" for p in range(100)}
    assert all(int(r["service_point"][2:]) - 300_000_000 == int(r["account_no"][3:11]) for r in money.bills)


def test_customers_are_told_in_billings_own_way(money: Money) -> None:
    from_reads = {r["customer_id"] for r in money.landed.rows("ami_daily_reads")} - {""}
    numbers = {r["cust_no"] for r in money.bills}
    known = {n for n in numbers if n}
    assert all(len(n) == 15 and n[:3] == "000" and int(n[:12]) % 97 == int(n[13:]) for n in known)
    assert {n[3:12] for n in known} <= from_reads
    assert len(known) > 0.95 * len({r["account_no"] for r in money.bills})
