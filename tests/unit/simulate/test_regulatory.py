"""The register of filings and the audit trail: the same bytes again, whole lives of filings, a ledger that fits what landed."""

from __future__ import annotations

import csv
import datetime as dt
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.bronze.feeds import Feed, load_feed
from utilityflow.bronze.names import clean_names
from utilityflow.bronze.scan import Limits
from utilityflow.bronze.xlsx import xlsx_records
from utilityflow.bronze.xmlrecords import xml_records
from utilityflow.errors import UtilityFlowError
from utilityflow.simulate import audit_trail, filing_register
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.defects import KINDS, LEDGER_COLUMNS, TWO, load_profile
from utilityflow.simulate.filings import FORMS, filings_due, register
from utilityflow.simulate.landing import Written
from utilityflow.simulate.model import DISTRICTS, TOWNS_PER_DISTRICT, Utility
from utilityflow.simulate.planted import TWINS
from utilityflow.simulate.pools import load_pools
from utilityflow.simulate.regulatory import MONTH_BYTES, write_regulatory

from .conftest import SEED, Landed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ZONE, START, MONTHS = "America/New_York", dt.date(2024, 10, 1), 4  # over the end of a year and of summer time
FEEDS = (filing_register.FEED, audit_trail.FEED)
KEYS = {filing_register.FEED: filing_register.KEY, audit_trail.FEED: audit_trail.KEY}
Row = dict[str, str]


def write(root: Path, months: range, **changes: Any) -> dict[str, Written]:
    given: dict[str, Any] = {"seed": SEED, "customers": 100, "profile": None} | changes
    utility = Utility(given["seed"], given["customers"], Almanac(given["seed"], START, MONTHS, ZONE), load_pools())
    messages: list[str] = []
    made = write_regulatory(
        utility, months, load_profile(given["profile"]), root / "landing", root / "defects", messages.append
    )
    assert len(messages) == 1
    return made


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("regulatory")
    write(root, range(MONTHS))
    return root


def contents(root: Path, word: str = "") -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file() and word in f.name}


def feed_of(name: str, repository: Path) -> Feed:
    return load_feed(repository / "conf" / "feeds" / f"{name}.yaml")


def records(feed: Feed, file: Path) -> Iterator[Row]:
    """The records as bronze gets them; none may be corrupt."""
    read: Callable[..., Any] = xlsx_records if feed.format == "xlsx" else xml_records
    arguments = [feed, file, file.name, Limits(), *([[]] if feed.format == "xlsx" else [])]
    for names, texts, problem in read(*arguments):
        assert problem is None
        yield {name: text or "" for name, text in zip(names, texts, strict=True)}


# -- the same again ------------------------------------------------------------------------------------------------------


def test_a_month_made_alone_has_the_same_bytes(landed: Path, tmp_path: Path) -> None:
    made = write(tmp_path, range(2, 3))
    alone = contents(tmp_path)
    assert len(alone) == 4 and {feed: len(w.files) for feed, w in made.items()} == dict.fromkeys(FEEDS, 1)
    assert alone == contents(landed, "2024-12")
    write(tmp_path, range(2, 3))
    assert contents(tmp_path) == alone, "files of the same names are replaced, and nothing is left beside them"


def test_another_process_and_another_day_give_the_same_bytes(landed: Path, tmp_path: Path, repository: Path) -> None:
    """Neither the order of sets nor the clock is in them."""
    code = (
        "import datetime as dt, sys; from pathlib import Path\n"
        "from utilityflow.simulate.almanac import Almanac; from utilityflow.simulate.model import Utility\n"
        "from utilityflow.simulate.pools import load_pools; from utilityflow.simulate.defects import load_profile\n"
        "from utilityflow.simulate.regulatory import write_regulatory\n"
        f"u = Utility({SEED}, 100, Almanac({SEED}, dt.date(2024, 10, 1), {MONTHS}, '{ZONE}'), load_pools())\n"
        "root = Path(sys.argv[1])\n"
        "write_regulatory(u, range(3, 4), load_profile(), root / 'landing', root / 'defects', lambda _: None)\n"
    )
    environment = {"PYTHONHASHSEED": "12", "PYTHONPATH": str(repository / "lib"), "TZ": "Asia/Tokyo", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    assert contents(tmp_path) == contents(landed, "2025-01")


def test_another_seed_gives_another_content_and_customers_only_other_names(landed: Path, tmp_path: Path) -> None:
    write(tmp_path / "seed", range(1), seed=SEED + 1)
    here, there = contents(landed, "2024-10"), contents(tmp_path / "seed", "2024-10")
    assert here.keys() == there.keys() and not [name for name in here if here[name] == there[name]]
    many = write(tmp_path / "many", range(1), customers=1_000_000)
    book = f"landing/{filing_register.FEED}/{filing_register.FEED}_2024-10.xlsx"
    assert contents(tmp_path / "many")[book] == here[book]
    assert many[audit_trail.FEED].rows > audit_trail.EVENTS
    assert sum(w.bytes for w in many.values()) < MONTH_BYTES, "what the disk is asked for"


# -- what is in it -------------------------------------------------------------------------------------------------------


def test_the_register_lists_each_filing_of_the_year_once() -> None:
    rows = register(SEED, dt.date(2025, 1, 1))
    names = [filing.name for filing, _ in rows]
    assert len(names) == len(set(names))
    due = filings_due(SEED, 2025)
    assert {filing.name for filing in due} <= set(names)
    assert Counter(filing.kind.code for filing in due) == {
        f.code: (12 // f.months) * (DISTRICTS if f.by_district else 1) for f in FORMS
    }  # fmt: skip
    moved = [state for filing, state in rows if filing.due.year == 2024]
    assert moved and all(state.changed >= dt.datetime(2025, 1, 1) for state in moved)
    assert all(state.changed < dt.datetime(2025, 2, 1) for _, state in rows)


def test_districts_have_the_names_of_the_network(landed: Path, repository: Path) -> None:
    book = landed / "landing" / filing_register.FEED / f"{filing_register.FEED}_2024-11.xlsx"
    rows = [*records(feed_of(filing_register.FEED, repository), book)]
    towns = load_pools().towns
    names = {row["filing_number"][-3:]: row["filing_district"] for row in rows if "-D" in row["filing_number"]}
    assert names == {f"D{d + 1:02d}": towns[d * TOWNS_PER_DISTRICT] for d in range(DISTRICTS)}


def test_lives_of_filings_follow_the_rules_of_the_register() -> None:
    after = {"due": {"due", "filed", "withdrawn"}, "filed": {"accepted", "rejected"}, "rejected": {"filed"},
             "accepted": {"amended"}, "amended": {"accepted"}, "withdrawn": set()}  # fmt: skip
    filings = [f for year in (2023, 2024, 2025) for f in filings_due(SEED, year)]
    seen: Counter[str] = Counter()
    for filing in filings:
        states = filing.states
        assert states[0].status == "due" and states[-1].status in ("accepted", "withdrawn")
        for before, state in zip(states, states[1:], strict=False):
            assert before.changed < state.changed and state.status in after[before.status]
            assert (state.filed is None) == (state.status in ("due", "withdrawn"))
            assert state.filed is None or filing.end < state.filed.date() <= state.changed.date()
            assert not state.penalty or (state.status in ("accepted", "amended") and state.penalty % 500 == 0)
        assert states[-1].changed.date() < filing.due + dt.timedelta(days=365), "so the register need not look further back"
        seen.update({s.status for s in states} | ({"late"} if states[-1].penalty else set()))
    assert all(0 < seen[kind] < len(filings) / 4 for kind in ("withdrawn", "rejected", "amended", "late")), seen


def test_the_trail_is_of_its_month_and_tells_of_each_step_of_a_filing(landed: Path, repository: Path) -> None:
    feed = feed_of(audit_trail.FEED, repository)
    november = [*records(feed, landed / "landing" / audit_trail.FEED / f"{audit_trail.FEED}_2024-11.xml")]
    spotless = [e for e in november if e["occurred"][5:7] != "13"]
    stamps = [e["occurred"] for e in spotless]
    assert stamps == sorted(stamps, key=lambda s: (s[:19], s)) and {s[:7] for s in stamps} == {"2024-11"}
    assert {s[19:] for s in stamps if s < "2024-11-03"} == {"-04:00"}, "summer time"
    assert {s[19:] for s in stamps if s > "2024-11-04"} == {"-05:00"}
    changes = [s.changed for year in (2023, 2024, 2025) for f in filings_due(SEED, year) for s in f.states[1:]]
    told = [e for e in november if e["object_kind"] == "filing"]
    assert len(told) == sum((at.year, at.month) == (2024, 11) for at in changes) > 20
    assert {"Finding", "Denied", "Success", "Failure"} <= {e["outcome"] for e in november}
    reviews = [e for e in november if e["action"] == "Review"]
    assert reviews and all(e["filing"] for e in reviews)


# -- the ledger ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FEEDS)
def test_the_shipped_feeds_read_the_columns(name: str, repository: Path, landed: Path) -> None:
    module = filing_register if name == filing_register.FEED else audit_trail
    feed = feed_of(name, repository)
    file = sorted((landed / "landing" / name).iterdir())[0]
    first = next(records(feed, file))
    assert set(first) == set(module.COLUMNS) == set(clean_names(module.COLUMNS))
    assert set(module.COLUMNS) - set(feed.columns_read()) == ({"actor_role"} if name == audit_trail.FEED else set())


@pytest.mark.parametrize("name", FEEDS)
def test_what_differs_from_spotless_files_is_what_the_ledger_says(
    name: str, repository: Path, landed: Path, tmp_path: Path
) -> None:
    made = write(tmp_path, range(MONTHS), profile={})
    assert {w: made[w].defects for w in made} == {feed: {} for feed in FEEDS}
    feed, key = feed_of(name, repository), KEYS[name]
    found, ledger = [], []
    for spotless in made[name].files:
        dirty = landed / "landing" / name / spotless.name
        for clean, row in zip(records(feed, spotless), records(feed, dirty), strict=True):
            place = "|".join(clean[k] for k in key)
            found += [(spotless.name, place, c, clean[c], row[c]) for c in clean if clean[c] != row[c]]
        with (landed / "defects" / name / f"{spotless.stem}.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert {tuple(row) for row in rows} <= {LEDGER_COLUMNS}
        ledger += [(e["file"], e["row_key"], e["column"], e["clean_value"], e["planted_value"]) for e in rows]
    assert sorted(found) == sorted(ledger) and len(ledger) > 5
    assert made[name].rows == sum(1 for file in made[name].files for _ in records(feed, file))


def test_defects_of_columns_that_there_are_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UtilityFlowError, match="UF-1001") as caught:
        write(tmp_path, range(1), profile={"filing_register": [{"kind": "missing", "column": "filing_numbr", "rate": 0.1}]})
    assert "filing_number" in str(caught.value)
    assert contents(tmp_path) == {}


def test_the_kinds_of_defects_do_in_python_what_they_do_in_the_engine(spark: SparkSession) -> None:
    assert TWINS.keys() == KINDS.keys() - {*TWO, "stale", "frozen"}, "those of one column, of whose value nothing else is told"
    values = ["12.345", "0.000", "NY", "Ny", "13001", "2024-02-03", "2024-02-03T04:05:06Z"]
    values += ["2024-13-03 04:05:06", "7", "kWh", "x y"]
    columns = ", ".join(f"{template.format(v='v')} AS `{kind}`" for kind, template in KINDS.items() if kind in TWINS)
    texts = ", ".join(f"('{v}')" for v in values)
    rows = spark.sql(f"SELECT v, {columns} FROM VALUES {texts} AS t(v)").collect()
    assert [{k: TWINS[k](row["v"]) for k in TWINS} for row in rows] == [{k: row[k] for k in TWINS} for row in rows]


def test_the_system_is_written_where_it_is_asked_for(simulated: Callable[..., Landed], landed: Path) -> None:
    given = {"only_month": 2, "months": 2, "start": START, "customers": 100, "time_zone": ZONE}
    made = simulated(systems=["regulatory_reporting"], **given)
    alone = contents(landed, "2024-11")
    for root in ("landing", "defects"):
        mine = {name.removeprefix(f"{root}/"): content for name, content in alone.items() if name.startswith(root)}
        assert len(mine) == 2 and contents(getattr(made, root)).items() >= mine.items()
    assert all(made.summary.rows[feed] > 300 and made.summary.defects[feed] for feed in FEEDS)
    assert {file.name for file in made.summary.files} >= {f"{FEEDS[0]}_2024-11.xlsx", f"{FEEDS[1]}_2024-11.xml"}
