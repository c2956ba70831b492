"""What all tests share: one Spark session per process, the real data, repeatable property tests, the table of faults."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REPOSITORY = Path(__file__).resolve().parent.parent

# Spark's first call takes seconds, so no deadline. The same examples each time, so that a red run is a change's fault;
# HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeat", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


# More than half of what the everyday suite would take, most of it for runs, rebuilt lakehouses and simulated months:
# `make test-long` takes them, and CI does. Those marked `engine` run on the floor lane too with `make test-floor FLOOR_LATER=`.
HEAVY = (
    "bench/test_growth_bench.py", "contract/test_migration.py", "faults/test_bad_homes.py", "faults/test_branches.py",
    "faults/test_crash_sweep.py", "faults/test_fault_files.py", "faults/test_fault_logs.py", "faults/test_fault_places.py",
    "faults/test_interrupted.py", "faults/test_rollback.py", "scd2/test_peers.py", "scd2/test_property.py",
    "scd2/test_tables.py", "unit/operate/test_agreements.py", "unit/operate/test_explain.py",
    "unit/operate/test_maintain.py", "unit/operate/test_marts.py", "unit/operate/test_rehash.py",
    "unit/operate/test_upkeep.py", "unit/operate/test_verify.py", "unit/publish/test_publication.py",
    "unit/silver/test_states_again.py", "unit/simulate/test_account_defects.py", "unit/simulate/test_bills.py",
    "unit/simulate/test_customer_database.py", "unit/simulate/test_defects.py", "unit/simulate/test_determinism.py",
    "unit/simulate/test_operations.py", "unit/simulate/test_realism.py", "unit/simulate/test_regulatory.py",
    "unit/simulate/test_requests.py",
)  # fmt: skip

# What the simulator writes, system by system: slow, so that CI stays within its time. For who changes the simulator.
SLOW = (
    "unit/simulate/test_agreements.py", "unit/simulate/test_outages.py", "unit/simulate/test_payments.py",
    "unit/simulate/test_whole_records.py",
)  # fmt: skip


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of the files of HEAVY and SLOW."""
    file = item.path.relative_to(REPOSITORY / "tests").as_posix()
    if file in HEAVY:
        item.add_marker(pytest.mark.heavy)
    if file in SLOW:
        item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one session of this test process: real Delta, two cores, small; its scratch files go with pytest's own."""
    from utilityflow.session import SMALL, get_session

    session = get_session(
        "utilityflow-tests",
        master="local[2]",
        extra={
            "spark.driver.memory": "3g",
            "spark.sql.shuffle.partitions": "2",
            "spark.default.parallelism": "2",
            "spark.databricks.delta.snapshotPartitions": "1",
        },
        scratch=tmp_path_factory.mktemp("spark"),
    )
    for key, value in SMALL.items():  # as a run over few rows sets them; UTILITYFLOW_TEST_PLANS=usual for those of large runs
        if os.environ.get("UTILITYFLOW_TEST_PLANS", "small") == "small":
            session.conf.set(key, value)
    yield session
    session.stop()


# what a file's tests may leave changed on the session (read_files does): how the engine cuts what it reads into tasks
_READING = ("spark.sql.files.openCostInBytes", "spark.sql.files.maxPartitionBytes")


@pytest.fixture(scope="module", autouse=True)
def leave_the_session_as_found() -> Iterator[None]:
    """No file of tests sees what another did to the session.

    Delta keeps the state of each table that it has seen for an hour: the homes of all tests would fill the heap.
    """
    yield
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    if session is not None and hasattr(session, "_jvm"):
        for key in _READING:
            session.conf.unset(key)
        session._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


@pytest.fixture(scope="session")
def real_data(repository: Path) -> Path:
    """The folder of the real data pack; tests that need it carry the marker ``real``, and are skipped without it."""
    named = os.environ.get("UTILITYFLOW_REAL_DATA")
    folder = Path(named) if named else repository.parent / "shared" / "data" / "real"
    if not folder.is_dir():
        where = "UTILITYFLOW_REAL_DATA" if named else "../shared/data/real (UTILITYFLOW_REAL_DATA names another place)"
        pytest.skip(f"the real data pack is not there: {where}")
    return folder


# -- the numbered faults: a test marked `fault(number, "what happens")` becomes a row of the table ------------------------

_ROWS = pytest.StashKey[list[dict[str, Any]]]()
_TOLD = pytest.StashKey[dict[str, Any]]()
_HEAD = ("fault", "what happens", "detected", "recovered unaided", "rows lost", "wrong figures", "false alarms", "test")


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Tell what a test marked ``fault`` measured; several calls add up. What is not told stays "not measured".

    ``detected``: the code or words that told of the fault, or False; ``unaided``: whether a plain run afterwards mended it
    (None: it asks for a hand, or nothing had to be mended); ``rows_lost``: against the untouched home; ``wrong``: tables or
    figures that differ from it; ``false_alarms``: findings on what is whole.
    """
    told = request.node.stash.setdefault(_TOLD, {})

    def tell(*, detected: str | bool | None = None, unaided: bool | None = None, rows_lost: int | None = None,
             wrong: int | None = None, false_alarms: int | None = None) -> None:  # fmt: skip
        for name, count in (("rows_lost", rows_lost), ("wrong", wrong), ("false_alarms", false_alarms)):
            if count is not None:
                told[name] = told.get(name, 0) + count
        if detected is not None:
            told["detected"] = detected if told.get("detected", True) else False
        if unaided is not None:
            told["unaided"] = unaided and told.get("unaided", True)

    return tell


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    mark = item.get_closest_marker("fault")
    if mark is not None and (report.when == "call" or (report.when == "setup" and not report.passed)):
        row = {"fault": mark.args[0], "what": mark.args[1], "test": item.nodeid, "outcome": report.outcome,
               "seconds": round(report.duration, 1), **item.stash.get(_TOLD, {})}  # fmt: skip
        item.config.stash.setdefault(_ROWS, []).append(row)
        if place := os.environ.get("UF_FAULTS"):
            with Path(place).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table, when it was asked for: UF_FAULTS names a file that the rows are added to as JSON lines."""
    rows = terminalreporter.config.stash.get(_ROWS, [])
    if not rows or "UF_FAULTS" not in os.environ:
        return
    terminalreporter.section("the numbered faults")
    terminalreporter.write_line(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}")
    for row in sorted(rows, key=lambda r: (r["fault"], r["test"])):
        terminalreporter.write_line(f"| {' | '.join(map(str, _cells(row)))} |")


def _cells(row: dict[str, Any]) -> list[Any]:
    test = row["test"].partition("::")[2]
    if row["outcome"] != "passed":
        return [row["fault"], row["what"], row["outcome"].upper(), "", "", "", "", test]
    unaided = {True: "yes", False: "no", None: "not asked"}[row.get("unaided")]
    seen = {True: "yes", False: "no", None: "nothing to see"}.get(row.get("detected"), row.get("detected"))
    counts = [row.get(name, "not measured") for name in ("rows_lost", "wrong", "false_alarms")]
    return [row["fault"], row["what"], seen, unaided, *counts, test]
