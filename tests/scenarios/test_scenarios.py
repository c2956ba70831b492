"""One generic test for all scenario folders: a new folder, or a new CSV in ``then/``, is a new test.

    given_<state>/
      feeds/*.yaml         the feeds of the scenario (default: ../feeds)
      when/runs.yaml       time_zone, and for each run its as_of; a run's landed files are when/<n>/<path under landing>;
                           with verify: true the invariants are checked after the last run
      then/<layer>.<table>.csv       what the table holds after the last run (only the columns that the header names)
      then/<n>.<layer>.<table>.csv   the same after run n
      then/<n>.files.csv             what run n said of its files
      then/publication.csv           what the warehouse file holds, read by DuckDB: table, then columns of it

Expected values are read with the contract's types, never with the actual frame's. An empty cell is null, ``""`` the empty text.
"""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from utilityflow import pipeline
from utilityflow.contracts import load_contracts
from utilityflow.gold import usage
from utilityflow.lakehouse import Lakehouse
from utilityflow.operate.verify import verify
from utilityflow.publish import publication
from utilityflow.settings import Settings
from utilityflow.silver import apply, duplicates

HERE = Path(__file__).parent
BOUNDS = [(apply, "FEW_ROWS"), (duplicates, "FEW_DOUBLES"), (usage, "FEW_ROWS"), (publication, "MANY_ROWS")]
SCENARIOS = sorted(p.name for p in HERE.glob("given_*"))


def expectations(scenario: str) -> list[str]:
    """The CSV files of a scenario's ``then``."""
    return sorted(p.name for p in (HERE / scenario / "then").glob("*.csv"))


FEW, MANY = "few", "many"  # rows, for the ways that the steps choose by their number
# of every day; the other scenarios belong to the longer tests, and the way of many rows to the slow ones
EVERYDAY = ("given_customers_that_change",)
# slow too: what they show is shown by cases of tests/scd2, test_members.py and tests of the steps, if not from file to warehouse
SELDOM = ("given_a_day_that_is_billed_later", "given_a_key_twice_in_a_snapshot", "given_case_28_full_snapshots",
          "given_a_network_with_outages", "given_facts_before_customers", "given_intervals_and_billed_periods",
          "given_payments_before_customers")  # fmt: skip


def marks(scenario: str, rows: str) -> list[Any]:
    """When a scenario is played."""
    if rows == MANY or scenario in SELDOM:
        return [pytest.mark.slow]
    return [] if scenario in EVERYDAY else [pytest.mark.long]


CASES = [
    pytest.param(s, e, rows, id=f"{s}:{e[:-4]}{'' if rows == FEW else ':many'}", marks=marks(s, rows))
    for rows in (FEW, MANY) for s in SCENARIOS for e in expectations(s)
]  # fmt: skip


@pytest.fixture(scope="module")
def played(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Plays a scenario once; gives its snapshots: name of a ``then`` file -> rows."""
    done: dict[tuple[str, str], dict[str, Any]] = {}

    def play(scenario: str, rows: str) -> dict[str, Any]:
        if (scenario, rows) not in done:
            with pytest.MonkeyPatch.context() as patch:
                for module, bound in BOUNDS if rows == MANY else []:
                    patch.setattr(module, bound, 0)
                done[scenario, rows] = _play(spark, scenario, tmp_path_factory.mktemp(scenario[:30]))
        return done[scenario, rows]

    return play


def _play(spark: Any, scenario: str, folder: Path) -> dict[str, Any]:
    source = HERE / scenario
    script = yaml.safe_load((source / "when" / "runs.yaml").read_text(encoding="utf-8"))
    feeds = source / "feeds" if (source / "feeds").is_dir() else HERE / "feeds"
    landing = folder / "landing"
    landing.mkdir()
    settings = Settings(
        home=str(folder / "home"), landing=str(landing), feeds=str(feeds), time_zone=script["time_zone"]
    )
    seen: dict[str, Any] = {}
    wanted = expectations(scenario)
    for number, step in enumerate(script["runs"], start=1):
        landed = source / "when" / str(number)
        if landed.is_dir():
            shutil.copytree(landed, landing, dirs_exist_ok=True)
        for name in step.get("remove", []):
            (landing / name).unlink()
        answer = pipeline.run(settings, as_of=dt.date.fromisoformat(str(step["as_of"])))
        assert answer["status"] == step.get("status", "succeeded"), answer["error"] or answer["files"]
        seen[f"{number}.files.csv"] = answer["files"]
        for name in wanted:
            if name.startswith(f"{number}.") and not name.endswith("files.csv"):
                seen[name] = _table(spark, folder / "home", name[len(f"{number}.") : -4])
    if script.get("verify"):
        broken = [c for c in verify(settings)["checks"] if c["status"] != "ok"]
        assert not broken, broken
    for name in wanted:
        if not name[0].isdigit():
            seen[name] = _table(spark, folder / "home", name[:-4])
    return seen


def _table(spark: Any, home: Path, name: str) -> list[dict[str, Any]]:
    house = Lakehouse(spark, str(home / "lakehouse"), load_contracts())
    return [row.asDict() for row in house.table(name).read().collect()]


@pytest.mark.engine
@pytest.mark.parametrize(("scenario", "expected", "rows"), CASES)
def test_scenario(played: Any, scenario: str, expected: str, rows: str) -> None:
    """The table holds exactly the expected rows."""
    actual = played(scenario, rows)[expected]
    name = expected[:-4].split(".", 1)[1] if expected[0].isdigit() else expected[:-4]
    with (HERE / scenario / "then" / expected).open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
        header = [c for c in lines[0] if not c.startswith("#")] if lines else []
    types = {"rows": "int"} if name == "files" else {c.name: c.type for c in load_contracts()[name].columns}
    if name != "files":
        unknown = [c for c in header if c not in types]
        assert not unknown, f"{expected} names columns that the contract does not have: {unknown}"
        if name.startswith("gold.dim_"):
            reserved = load_contracts()[name].primary_key[0]
            actual = [r for r in actual if r[reserved] != -1]
    want = sorted(repr(tuple(_typed(row[c], types.get(c, "string"), c) for c in header)) for row in lines)
    have = sorted(repr(tuple(_plain(row[c], c) for c in header)) for row in actual)
    assert have == want, "\n".join(
        ["", *header, "only expected:", *_minus(want, have), "only actual:", *_minus(have, want)]
    )


def _minus(left: list[str], right: list[str]) -> list[str]:
    rest = list(right)
    out = []
    for item in left:
        if item in rest:
            rest.remove(item)
        else:
            out.append(item)
    return out


def _plain(value: Any, column: str) -> Any:
    if column.startswith("rows_"):
        return int(value)
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, decimal.Decimal):
        return str(value.normalize() + 0)
    if isinstance(value, list):
        return "|".join(value)
    return str(value).lower() if isinstance(value, bool) else (None if value is None else str(value))


def _typed(text: str, kind: str, column: str) -> Any:
    if column.startswith("rows_"):
        return int(text)
    if kind.startswith("decimal") and text:
        return str(decimal.Decimal(text).normalize() + 0)
    if kind.startswith("array"):
        return text
    return text if text else None


def test_every_then_file_was_compared() -> None:
    """The guard itself can fail: an expectation that no run produces is found."""
    assert CASES, "no scenario was found"
    assert "1.nothing.csv" not in {case.values[1] for case in CASES}
    assert _minus(["a", "b"], ["a"]) == ["b"]
