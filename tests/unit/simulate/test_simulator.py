"""Arguments, disk, almanac, pools, feeds: what the simulator promises around its content."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.bronze.feeds import load_feed
from utilityflow.errors import UtilityFlowError
from utilityflow.simulate import CORE, customers, landing, progress, reads, simulate
from utilityflow.simulate.almanac import PROFILES, Almanac, is_rest_day
from utilityflow.simulate.defects import load_profile
from utilityflow.simulate.draws import bits, slots, text_array
from utilityflow.simulate.landing import own_session
from utilityflow.simulate.model import Utility
from utilityflow.simulate.pools import load_pools

from .conftest import SEED, START

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def attempt(spark: SparkSession, tmp_path: Path, **changes: Any) -> UtilityFlowError:
    given: dict[str, Any] = {"customers": 100, "months": 1, "start": START, "seed": 1, "systems": CORE}
    places = {"landing": tmp_path / "landing", "defects": tmp_path / "defects"}
    with pytest.raises(UtilityFlowError) as caught:
        simulate(spark, **(places | given | changes))
    assert not (tmp_path / "landing").exists(), "nothing is written"
    return caught.value


def test_what_does_not_fit_the_disk_is_refused_before_it_starts(spark: SparkSession, tmp_path: Path) -> None:
    messages: list[str] = []
    size = {"customers": 100_000, "months": 12}
    error = attempt(spark, tmp_path, **size, free=lambda _: 10**9, progress=messages.append)
    assert error.code == "UF-1013"
    assert re.search(r"needs about 2\.\d GiB", error.message), error.message
    assert len(messages) == 1 and "GiB for 3" in messages[0]


def test_each_file_system_must_hold_its_own_part(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "volume", lambda folder: folder.name)
    size: dict[str, Any] = {"customers": 100_000, "months": 12, "systems": (*CORE, "customer_database")}
    for short in ("landing", "defects", "sources"):
        messages: list[str] = []
        # the small ones are short of less than the large one takes
        free = {"landing": 2**40, "defects": 2**40, "sources": 2**40} | {short: 100 * 2**20}
        error = attempt(spark, tmp_path, **size, free=lambda folder, f=free: f[folder.name], progress=messages.append)
        assert error.code == "UF-1013" and f"{tmp_path / short} has 100 MiB free" in error.message
        assert error.message.count("free") == 1
        assert [m.rsplit("/", 1)[1] for m in messages] == ["landing", "defects", "sources"]
    sizes = [float(re.findall(r"about ([\d.]+) (?=GiB|MiB)", m)[0]) for m in messages]
    assert sizes[1] > 64 and sizes[2] > 64, "beside a reserve on each"


def test_folders_of_one_file_system_are_added_up(spark: SparkSession, tmp_path: Path) -> None:
    assert landing.volume(tmp_path / "not" / "there") == tmp_path.stat().st_dev
    messages: list[str] = []
    error = attempt(spark, tmp_path, systems=(*CORE, "customer_database"), free=lambda _: 1, progress=messages.append)
    (message,) = messages
    for name in ("landing", "defects", "sources"):
        assert f"{tmp_path / name}" in message and f"{tmp_path / name}" in error.message


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"customers": 0}, "customers"),
        ({"months": 0}, "months"),
        ({"start": dt.date(2024, 1, 2)}, "first day"),
        ({"only_month": 2}, "only_month"),
        ({"reads_format": "xlsx"}, "reads_format"),
        ({"time_zone": "America/Nowhere"}, "time zone"),
        ({"systems": ["biling"]}, "billing"),
        ({"systems": ["customer_databas"]}, "customer_database"),
        ({"systems": []}, "no system"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, Any], word: str, spark: SparkSession, tmp_path: Path) -> None:
    error = attempt(spark, tmp_path, **changes)
    assert error.code == "UF-1004"
    assert word in str(error)


def test_the_ledger_stays_outside_the_landing_root(spark: SparkSession, tmp_path: Path) -> None:
    error = attempt(spark, tmp_path, defects=tmp_path / "landing" / "defects")
    assert error.code == "UF-1004"


def test_source_systems_stay_outside_the_landing_root_too(spark: SparkSession, tmp_path: Path) -> None:
    error = attempt(spark, tmp_path, sources=tmp_path / "landing" / "sources")
    assert error.code == "UF-1004" and "source systems" in str(error)


def test_one_customer_is_enough(spark: SparkSession, tmp_path: Path) -> None:
    places = {"landing": tmp_path / "landing", "defects": tmp_path / "defects"}
    summary = simulate(spark, **places, customers=1, months=1, start=START, seed=3, profile={}, systems=CORE)
    assert summary.rows["cis_customers"] >= 1
    assert 20 <= summary.rows["ami_daily_reads"] <= 70


@pytest.mark.parametrize("module", [customers, reads])
def test_the_shipped_feeds_read_the_simulated_columns(module: Any, repository: Path) -> None:
    feed = load_feed(repository / "conf" / "feeds" / f"{module.FEED}.yaml")
    assert feed.feed == module.FEED and feed.system == module.SYSTEM
    assert set(feed.columns_read()) == set(module.COLUMNS)


@pytest.mark.engine
def test_generated_code_stays_small_enough_to_be_compiled(
    spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    """HotSpot interprets methods above 8,000 bytes, and 60 million reads take several times as long."""
    utility = Utility(SEED, 2_000_000, Almanac(SEED, START, 1, "America/New_York"), load_pools())
    extract = reads.reads_extract(utility, range(1), load_profile().usage_monitoring)
    session = own_session(spark, extract)
    extract.csv_lines(session.sql(extract.query)).explain(mode="codegen")
    sizes = [int(n) for n in re.findall(r"maxMethodCodeSize:(\d+)", capsys.readouterr().out)]
    assert sizes and max(sizes) < 8000


def test_progress_says_how_much_is_done_and_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.01)
    shares, told, over = iter([0.0, 0.25, 0.1, 0.5, 0.75, 7.0]), list[str](), threading.Event()

    def part() -> float:
        share = next(shares, None)
        if share is None:
            over.set()
        return 1.0 if share is None else share

    with progress.reporting("a feed", 2000, part, told.append, unit="files"):
        assert over.wait(30)
    assert told[:3] == [f"a feed: about {n} of 2,000 files, time left not known yet" for n in (0, 500, 500)], "never back"
    rest = [re.fullmatch(r"a feed: about ([\d,]+) of 2,000 files, \d+ s left", line) for line in told[3:]]
    assert [found and found[1] for found in rest][:3] == ["1,000", "1,500", "1,980"], "an estimate is never all"
    told_now = len(told)
    time.sleep(0.05)
    assert len(told) == told_now, "nothing is told afterwards"


def test_days_of_23_and_25_hours_and_rest_days() -> None:
    almanac = Almanac(SEED, dt.date(2024, 1, 1), 12, "America/New_York")
    lengths = dict(zip(almanac.days, almanac.hours, strict=True))
    assert len(lengths) == 366
    assert {day: h for day, h in lengths.items() if h != 24} == {dt.date(2024, 3, 10): 23, dt.date(2024, 11, 3): 25}
    rest = {day for day in almanac.days if day.weekday() < 5 and is_rest_day(day)}
    assert {dt.date(2024, 5, 27), dt.date(2024, 7, 4), dt.date(2024, 9, 2), dt.date(2024, 11, 28)} <= rest
    assert len(rest) == 10


def test_weather_has_seasons_and_drives_the_load() -> None:
    almanac = Almanac(SEED, dt.date(2024, 1, 1), 12, "America/New_York")
    january, july = ([d for d in almanac.days if d.month == m] for m in (1, 7))
    cold, warm = (sum(almanac.temperature(d, 0) for d in days) / 310 for days in (january, july))
    assert cold < 5 and 15 < warm < 30
    heated = [i for i, p in enumerate(PROFILES) if p.heat == max(q.heat for q in PROFILES)][0]
    step = len(PROFILES) * 4
    loads = [almanac.load[day * step + heated * 4] for day in range(366)]
    assert sum(loads[:31]) > 1.4 * sum(loads[182:213])


def test_slots_follow_the_weights() -> None:
    filled = slots({"a": 3.0, "b": 1.0, "c": 0.001}, 8)
    assert (filled.count("a"), filled.count("b"), len(filled)) == (6, 2, 8)
    pools = load_pools()
    common = slots(pools.last_names, 4096)
    assert len(common) == 4096 and common.count("Smith") > common.count("Glover") >= 1


def test_draws_refuse_what_would_be_silent() -> None:
    with pytest.raises(ValueError, match="64-bit"):
        bits("h", 60, 8)
    with pytest.raises(ValueError, match="'|'"):
        text_array(["a|b"])
