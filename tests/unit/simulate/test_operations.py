"""Operational faults: which files they hit, what becomes of these, and that the suite ends where it would have without them."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError
from utilityflow.lakehouse import Lakehouse
from utilityflow.settings import Settings
from utilityflow.simulate import CORE, progress, simulate
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.operations import COMES_BACK, HEADER_DAYS, KINDS, RESENT, Fault, Operations, asked

from .conftest import SEED, START, Landed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FEED, FEBRUARY, MARCH = "ami_daily_reads", "2024-02", "2024-03"
SMALL = {"customers": 100, "faults": ["all"]}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def whole(simulated: Callable[..., Landed]) -> Landed:
    """Both months as they would have been."""
    return simulated(customers=100)


@pytest.fixture(scope="module")
def first(simulated: Callable[..., Landed]) -> Landed:
    """The first month, with all faults."""
    return simulated(**SMALL, only_month=1)


@pytest.fixture(scope="module")
def both(simulated: Callable[..., Landed]) -> Landed:
    """Both months in one call, with all faults."""
    return simulated(**SMALL)


def of_month(landed: Landed, kind: str, month: str) -> list[Fault]:
    return [f for f in landed.summary.operations if (f.kind, f.month) == (kind, month)]


def lines(content: bytes) -> list[list[str]]:
    return [line.split(",") for line in content.decode().splitlines()]


def test_each_kind_hits_files_of_its_own_whatever_else_is_asked_for() -> None:
    almanac = Almanac(SEED, START, 2, "America/New_York")
    seen = set()
    for month in range(24):
        everything = Operations(SEED, almanac, KINDS, FEED).hit(month)
        days = [day for some in everything.values() for day in some]
        assert everything.keys() == set(KINDS)
        assert len(set(days)) == len(days) == len(KINDS) - 1 + HEADER_DAYS
        assert all((day.year, day.month) == (2024 + (month + 1) // 12, (month + 1) % 12 + 1) for day in days)
        for kind in KINDS:
            assert Operations(SEED, almanac, (kind,), FEED).hit(month) == {kind: everything[kind]}
        seen.add(everything["late_file"][0].day)
    assert len(seen) > 8, "the days are drawn"
    other = Operations(SEED + 1, almanac, KINDS, FEED)
    assert [other.hit(m) for m in range(6)] != [Operations(SEED, almanac, KINDS, FEED).hit(m) for m in range(6)]


def test_months_made_one_by_one_end_as_months_made_at_once(
    both: Landed, first: Landed, spark: SparkSession, tmp_path: Path
) -> None:
    places = {"landing": tmp_path / "landing", "defects": tmp_path / "defects"}
    made = [
        simulate(spark, **places, months=5, start=START, seed=SEED, systems=CORE, only_month=month, **SMALL)  # type: ignore[arg-type]
        for month in (1, 2)
    ]
    assert contents(places["landing"]) == contents(both.landing)
    assert contents(places["defects"]) == contents(both.defects)
    assert made[0].operations + made[1].operations == both.summary.operations
    assert made[0].operations == first.summary.operations
    for summary in (*made, both.summary):
        assert all(file.is_file() for file in summary.files)


def test_without_faults_everything_is_as_before(whole: Landed, both: Landed) -> None:
    assert whole.summary.operations == ()
    assert not (whole.defects / "operations").exists()
    plain, faulty = contents(whole.defects), contents(both.defects)
    assert {name: text for name, text in faulty.items() if not name.startswith("operations/")} == plain
    hit = {f"{FEED}/{fault.file}" for fault in both.summary.operations}
    plain, faulty = contents(whole.landing), contents(both.landing)
    assert {n: t for n, t in faulty.items() if n not in hit and RESENT not in n} == {
        n: t for n, t in plain.items() if n not in hit
    }
    assert len(hit) == 2 * (len(KINDS) - 1 + HEADER_DAYS)


def test_what_each_kind_does_to_its_file(whole: Landed, first: Landed, both: Landed) -> None:
    should, now, later = (contents(landed.landing / FEED) for landed in (whole, first, both))
    count = {name: len(lines(content)) - 1 for name, content in should.items()}
    for kind in KINDS:
        faults = of_month(first, kind, FEBRUARY)
        assert len(faults) == (HEADER_DAYS if kind == "header_change" else 1)
        arrives = {"missing_day": "", **dict.fromkeys(COMES_BACK, MARCH)}.get(kind, FEBRUARY)
        for fault in faults:
            assert fault.arrives_month == arrives
            wrong = hashlib.sha256(now[fault.file]).hexdigest() if kind in ("corrected_file", "half_file") else ""
            assert fault.first_sha256 == wrong
            assert (later.get(fault.file) == should[fault.file]) is (kind not in ("missing_day", "header_change"))
            if kind in ("late_file", "missing_day"):
                assert fault.file not in now and fault.rows == count[fault.file]
            if kind == "duplicate_delivery":
                sent = fault.file.replace(".csv", f"{RESENT}.csv")
                assert now[sent] == now[fault.file] == should[fault.file] and fault.rows == count[fault.file]
            if kind == "header_change":
                _other_header(fault, now[fault.file], should[fault.file])
            if kind == "half_file":
                _half(fault, now[fault.file], should[fault.file])
            if kind == "corrected_file":
                _a_day_late(fault, now[fault.file], should[fault.file])
    days = [dt.date.fromisoformat(f.file[-14:-4]) for f in of_month(first, "header_change", FEBRUARY)]
    assert (days[-1] - days[0]).days == HEADER_DAYS - 1


def _other_header(fault: Fault, now: bytes, should: bytes) -> None:
    assert now.startswith(b"quality,rate_code,unit,peak_kw,KWH,register,Read Date,customer_id,meter_id,channel\n")
    assert [row[-2::-1] for row in lines(now)[1:]] == lines(should)[1:]
    assert {row[-1] for row in lines(now)[1:]} == {"RF"}
    assert fault.rows == len(lines(now)) - 1


def _half(fault: Fault, now: bytes, should: bytes) -> None:
    rows, last = lines(now), lines(now)[-1]
    assert should.startswith(now) and not now.endswith(b"\n")
    assert 0.4 < len(now) / len(should) < 0.6
    assert len(last) < len(rows[0]), "the last record is cut"
    assert fault.rows == len(lines(should)) - len(rows) + 1


def _a_day_late(fault: Fault, now: bytes, should: bytes) -> None:
    pairs = list(zip(lines(now)[1:], lines(should)[1:], strict=True))
    differing = [(a, b) for a, b in pairs if a != b]
    assert fault.rows == len(differing) > len(pairs) // 3
    assert all(a == b for a, b in pairs[: len(pairs) // 2])
    for a, b in differing:
        assert a[:2] + a[3:] == b[:2] + b[3:]
        assert dt.date.fromisoformat(a[2]) - dt.date.fromisoformat(b[2]) == dt.timedelta(days=1)


def test_the_list_stands_outside_the_landing_root(both: Landed) -> None:
    for month in (FEBRUARY, MARCH):
        with (both.defects / "operations" / f"{month}.csv").open(newline="", encoding="utf-8") as stream:
            listed = [Fault(**(row | {"rows": int(row["rows"])})) for row in csv.DictReader(stream)]  # type: ignore[arg-type]
        assert listed == [f for f in both.summary.operations if f.month == month]
    landed = {file.name for file in both.files(FEED)}
    assert {Path(f).name for f in both.summary.files if FEED in f.name} == landed
    assert both.summary.rows[FEED] == sum(len(lines(f.read_bytes())) - 1 for f in both.files(FEED)) - 1  # the cut one


def test_parquet_files_are_hit_alike(simulated: Callable[..., Landed], first: Landed) -> None:
    other = simulated(**SMALL, only_month=1, reads_format="parquet")
    folder = other.landing / FEED
    alike = [f for f in first.summary.operations if f.kind != "half_file"]
    assert [
        (f.kind, f.file.replace("parquet", "csv"), f.rows) for f in other.summary.operations if f.kind != "half_file"
    ] == [(f.kind, f.file, f.rows) for f in alike]
    (half,) = of_month(other, "half_file", FEBRUARY)
    with pytest.raises(ValueError, match="Parquet"):
        parquet.read_table(folder / half.file)
    for kind in ("corrected_file", "header_change"):
        ours, theirs = of_month(other, kind, FEBRUARY)[0].file, of_month(first, kind, FEBRUARY)[0].file
        table = parquet.read_table(folder / ours)
        rows = [[str(row[name]) for name in table.column_names] for row in table.to_pylist()]
        assert [table.column_names, *rows] == lines((first.landing / FEED / theirs).read_bytes())


def test_delivery_tells_files_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.001)
    operations, told = Operations(SEED, Almanac(SEED, START, 1, "America/New_York"), KINDS, FEED), list[str]()
    whole = [tmp_path / f"{FEED}_2024-02-{day:02d}.csv" for day in range(1, 30)]
    for file in whole:
        file.write_text("meter_id,read_date,kwh\n" + f"M1,{file.stem[-10:]},1.000\n" * 20_000)
    files, faults = operations.deliver(range(1), whole, tmp_path / "landed", told.append)
    assert len(files) == 28 and len(faults) == 8, "one more for what is sent twice, two less for what is late and never lands"
    line = re.compile(rf"{FEED}, operational faults: about \d of 8 files, (\d+ s left|time left not known yet)")
    assert told and all(line.fullmatch(one) for one in told) and any(one.endswith("s left") for one in told)


def test_a_few_records_are_enough(spark: SparkSession, tmp_path: Path) -> None:
    places = {"landing": tmp_path / "landing", "defects": tmp_path / "defects"}
    summary = simulate(spark, **places, customers=1, months=1, start=START, seed=3, profile={}, systems=CORE, faults=["all"])
    assert len(summary.operations) == len(KINDS) - 1 + HEADER_DAYS


def test_words_are_kinds() -> None:
    assert asked([""]) == asked([]) == ()
    assert asked(["all"]) == KINDS
    assert asked(["missing_day", "late_file"]) == ("late_file", "missing_day")


def test_an_unknown_kind_is_refused_before_anything_is_written(spark: SparkSession, tmp_path: Path) -> None:
    places: dict[str, Any] = {"landing": tmp_path / "landing", "defects": tmp_path / "defects"}
    with pytest.raises(UtilityFlowError) as caught:
        simulate(spark, **places, customers=10, months=1, start=START, seed=1, faults=["late_fil"])
    assert caught.value.code == "UF-1004" and "late_file" in (caught.value.hint or "")
    assert not (tmp_path / "landing").exists()


# -- what the suite makes of it --------------------------------------------------------------------------------------

TABLES = ("silver.customers", "silver.customers__quarantine", "silver.meter_reads", "silver.meter_reads__quarantine",
          "gold.dim_customer", "gold.dim_meter", "gold.fact_usage")  # fmt: skip


def settings(home: Path) -> Settings:
    return Settings(home=str(home), time_zone="America/New_York")


def run(home: Path, as_of: dt.date) -> dict[str, dict[str, Any]]:
    answer = pipeline.run(settings(home), as_of=as_of)
    assert answer["error"] is None, answer["error"]
    return {file["file"]: file for file in answer["files"] if file["status"] != "superseded"}


def state(spark: SparkSession, home: Path) -> dict[str, Counter[str]]:
    """Rows of silver and gold without what tells where they came from."""
    house, found = Lakehouse(spark, str(home / "lakehouse"), load_contracts()), {}
    for name in TABLES:
        table = house.table(name)
        kept = [n for n in table.contract.column_names if not n.startswith("_") and n != "rule_set"]
        found[name] = Counter(str(tuple(row)) for row in table.read().select(*kept).collect())
    return found


def unlike(some: dict[str, Counter[str]], other: dict[str, Counter[str]]) -> dict[str, tuple[int, int]]:
    """Table -> rows that only the one and only the other has."""
    both = {name: (some[name] - other[name], other[name] - some[name]) for name in TABLES}
    return {name: (a.total(), b.total()) for name, (a, b) in both.items() if a or b}


@pytest.mark.slow
def test_the_suite_ends_where_it_would_have_without_faults(spark: SparkSession, tmp_path: Path) -> None:
    """Three months of all faults, of the third only what comes back of the second, against one load of two whole months."""
    common: dict[str, Any] = {"customers": 200, "start": START, "seed": SEED, "profile": {}, "systems": CORE}
    faulty, sound, last = tmp_path / "faulty", tmp_path / "sound", dt.date(2024, 4, 30)
    given = common | {"months": 3, "faults": ["all"]}
    seen, faults, half_way = [], list[Fault](), {}
    for month, as_of in enumerate((dt.date(2024, 2, 29), dt.date(2024, 3, 31), last), 1):
        place = faulty if month < 3 else tmp_path / "third"
        made = simulate(spark, landing=place / "landing", defects=tmp_path / "defects", only_month=month, **given)
        if month < 3:
            faults += made.operations
        else:
            for file in (place / "landing" / FEED).glob(f"*{MARCH}*"):
                shutil.move(file, faulty / "landing" / FEED / file.name)
        seen.append(run(faulty, as_of))
        if month == 2:
            half_way = state(spark, faulty)
    simulate(spark, landing=sound / "landing", defects=tmp_path / "none", months=2, **common)
    for fault in faults:
        if fault.kind == "missing_day":
            (sound / "landing" / FEED / fault.file).unlink()
    run(sound, last)

    expected, found = state(spark, sound), state(spark, faulty)
    assert expected["gold.fact_usage"].total() > 10_000
    assert "gold.fact_usage" in unlike(half_way, expected), "the faults of the second month were felt"
    assert unlike(found, expected) == {}
    told = Lakehouse(spark, str(faulty / "lakehouse"), load_contracts()).table("ops.file_ledger").read()
    notes = {row["file_name"]: row["reason"] for row in told.where("reason IS NOT NULL").collect()}
    for fault in faults:
        name, month = f"{FEED}/{fault.file}", 0 if fault.month == FEBRUARY else 1
        if fault.kind == "late_file":
            assert name not in seen[month] and seen[month + 1][name]["status"] == "loaded"
        if fault.kind in ("half_file", "corrected_file"):
            assert seen[month][name]["status"] == "loaded" and seen[month + 1][name]["status"] == "superseding"
        if fault.kind == "half_file":
            assert seen[month][name]["rows_quarantined"] == 1, "the record that was cut"
        if fault.kind == "header_change":
            assert seen[month][name]["status"] == "loaded" and "columns come in another order" in notes[name]
        if fault.kind == "duplicate_delivery":
            assert seen[month][name.replace(".csv", f"{RESENT}.csv")]["status"] == "skipped"
