"""The suite on a real cluster: driver and executors agree, and an executor that dies costs a retry, not a row."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standalone import FLOOR, Standalone, Trouble

from utilityflow import __version__, pipeline
from utilityflow.contracts import load_contracts
from utilityflow.control.publication import last
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish.content import content_hash, partition_hashes
from utilityflow.settings import Settings
from utilityflow.simulate import CORE, simulate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.engine,
    pytest.mark.timeout(1200),  # seven JVMs: on two busy cores they take their time
    pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="executors are found and killed by way of /proc"),
]
MONTHS = {1: dt.date(2025, 1, 31), 2: dt.date(2025, 2, 28)}
SILVER = [f"silver.{entity}{part}" for entity in ("customers", "meter_reads") for part in ("", "__quarantine")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Standalone]:
    with Standalone(tmp_path_factory.mktemp("cluster"), repository) as standalone:
        yield standalone


def land(spark: Any, home: Path, month: int) -> None:
    """The files of a month of the demo's two systems, defects among them."""
    simulate(spark, landing=home / "landing", defects=home.parent / "defects", customers=120, months=2, only_month=month,
             systems=CORE, start=dt.date(2025, 1, 1), seed=1)  # fmt: skip


def settings(home: Path) -> Settings:
    return Settings(home=str(home), time_zone="America/New_York")


@pytest.fixture(scope="module")
def landed(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which nothing has been run yet."""
    home = tmp_path_factory.mktemp("landed") / "home"
    land(spark, home, 1)
    return home


@pytest.fixture(scope="module")
def local(spark: Any, landed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same home after a run in this process, without a cluster."""
    home = shutil.copytree(landed, tmp_path_factory.mktemp("local") / "home")
    assert pipeline.run(settings(home), as_of=MONTHS[1])["error"] is None
    return home


def state(spark: Any, home: Path) -> dict[str, Any]:
    """What must not depend on where a run ran, nor on what its executors suffered."""
    house = Lakehouse(spark, str(home / "lakehouse"), load_contracts())
    found: dict[str, Any] = {}
    for name in SILVER:
        table = house.table(name)
        found[name] = content_hash(partition_hashes(table.read(), table.contract))
    publication = last(house)
    assert publication is not None
    found |= {name: table.content_hash for name, table in publication.tables.items()}
    found["publication"] = publication.number
    counts = ["feed", "file_name", "status", *(f"rows_{n}" for n in ("read", "loaded", "quarantined", "superseded", "duplicate"))]
    ledger = [tuple(row) for row in house.table("ops.file_ledger").read().select(*counts).collect()]
    assert all(row[3] == sum(row[4:]) for row in ledger)
    found["accounting"] = sorted(map(str, ledger))
    steps = house.table("ops.step").read().where("status = 'ok'").select("step", "rows_written").collect()
    found["steps"] = sorted(map(tuple, steps))
    rules = house.table("ops.quality_result").read().select("table_name", "rule", "evaluated", "failed").collect()
    found["rules"] = sorted(map(tuple, rules))
    return found


def differences(spark: Any, home: Path, other: Path) -> dict[str, Any]:
    found, expected = state(spark, home), state(spark, other)
    return {key: (found[key], expected[key]) for key in expected if found[key] != expected[key]}


# -- agreement -------------------------------------------------------------------------------------------------------


def test_driver_and_executors_agree(spark: Any, cluster: Standalone, repository: Path, tmp_path: Path) -> None:
    rows = spark.range(0, 20_000, 1, 1).selectExpr("id * 7919 % 20011 AS n")
    rows.write.option("compression", "none").option("parquet.page.write-checksum.enabled", "true").parquet(str(tmp_path / "rows"))
    (file,) = (tmp_path / "rows").glob("*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    file.with_name(f".{file.name}.crc").unlink()  # only the page's own checksum is left to tell

    probe = repository / "tests" / "jobs" / "cluster_probe.py"
    options = ("--conf", "spark.sql.session.timeZone=America/Lima", "--conf=spark.sql.shuffle.partitions=3")
    done = cluster.submit(str(probe), str(tmp_path / "rows"), options=options)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    driver, workers = told["driver"], told["workers"]
    assert {Path(w["place"]).parts[-3] for w in workers} == {"work-1", "work-2"}, "not both workers were asked"
    for found in (driver, *workers):
        assert Path(found["file"]).parts[-3].endswith(".zip")
        assert found["version"] == __version__
        assert {key: found[key] for key in ("python", "conf", "contracts")} == {
            key: driver[key] for key in ("python", "conf", "contracts")
        }
    assert (".venv-floor" in driver["python"]) == FLOOR
    conf = told["conf"]
    assert (conf["spark.sql.session.timeZone"], told["hour"]) == ("UTC", 1), "results rely on it, so no option changes it"
    assert (conf["spark.sql.ansi.enabled"], told["strict"]) == ("true", True)
    assert conf["spark.sql.shuffle.partitions"] == "3", "what the submitter says of a tunable holds"
    assert "checksum" in told["flipped"].lower() or "crc" in told["flipped"].lower(), told["flipped"]


# -- the jobs --------------------------------------------------------------------------------------------------------


def submitted(cluster: Standalone, home: Path, job: str, *, month: int = 1, trouble: tuple[tuple[str, str], ...] = (),
              options: tuple[str, ...] = (), code: int = 0) -> str:  # fmt: skip
    """One job on the cluster, with trouble; its standard error."""
    points = cluster.folder / f"points-{len(list(cluster.folder.glob('points-*')))}"
    dated = () if job == "verify_lakehouse" else ("--as-of", str(MONTHS[month]))
    words = (job, "--home", str(home), "--time-zone", "America/New_York", *dated)
    with Trouble(cluster, points, list(trouble)) as befell:
        done = cluster.submit(*words, options=options, log=points)
    assert done.returncode == code, f"{job}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    failures, kinds = cluster.failures(), {what for _, what in trouble}
    print(job, dict(failures), "killed", befell.killed)
    assert not befell.todo, f"{job}: {befell.todo} did not happen; it passed:\n{points.read_text()}"
    assert failures["ExecutorLostFailure"] >= ("kill" in kinds), f"{job}: no task was lost: {failures}"
    assert failures["FetchFailed"] >= ("lose" in kinds), f"{job}: nobody missed what was removed: {failures}"
    return done.stderr


@pytest.mark.fault(14, "executors are killed and shuffle files removed on a cluster")
def test_a_run_loses_executors_and_shuffle_files_and_no_row(
    spark: Any, cluster: Standalone, landed: Path, local: Path, tmp_path: Path, fault: Any
) -> None:
    """Faults 13 and 14: tasks run again, and content, accounting, tallies and counts are those of the local run."""
    home = shutil.copytree(landed, tmp_path / "home")
    befalls = [("bronze.ami_daily_reads", "kill"), *[("silver.meter_reads", "lose")] * 3, ("silver.meter_reads", "kill"),
               *[("silver.meter_reads__quarantine", "lose")] * 2, ("gold.fact_usage", "kill")]  # fmt: skip
    submitted(cluster, home, "run_all", trouble=tuple((f"before append {name}#1", what) for name, what in befalls))
    wrong = differences(spark, home, local)
    fault(unaided=not wrong, wrong=len(wrong), rows_lost=int("accounting" in wrong))
    assert wrong == {}


@pytest.mark.slow
def test_the_jobs_one_by_one(spark: Any, cluster: Standalone, landed: Path, local: Path, tmp_path: Path) -> None:
    home = shutil.copytree(landed, tmp_path / "home")
    for job in ("ingest_bronze", "conform_silver", "build_gold", "publish_warehouse", "verify_lakehouse"):
        submitted(cluster, home, job)
    assert differences(spark, home, local) == {}


@pytest.mark.slow
@pytest.mark.fault(13, "tasks fail too often on a cluster")
def test_tasks_that_fail_too_often_block_the_run_and_name_the_step(
    spark: Any, cluster: Standalone, landed: Path, local: Path, tmp_path: Path, fault: Any
) -> None:
    """Fault 13: no second try of a stage is allowed here (executors that are killed from outside count against no bound)."""
    home = shutil.copytree(landed, tmp_path / "home")
    once = ("--conf", "spark.stage.maxConsecutiveAttempts=1")
    error = submitted(cluster, home, "run_all", trouble=(("before append silver.meter_reads#1", "lose"),), options=once, code=1)
    assert "UF-4001: step silver.meter_reads failed" in error
    submitted(cluster, home, "run_all")
    wrong = set(differences(spark, home, local)) - {"steps", "rules"}  # these tell of the first run too
    fault(detected="UF-4001", unaided=not wrong, wrong=len(wrong), rows_lost=int("accounting" in wrong))
    assert not wrong


@pytest.mark.slow
def test_a_second_month_loses_executors_at_every_merge(spark: Any, cluster: Standalone, local: Path, tmp_path: Path) -> None:
    """Rows that a MERGE or a DELETE changes while its executors die."""
    before = shutil.copytree(local, tmp_path / "before")
    land(spark, before, 2)
    home, beside = (shutil.copytree(before, tmp_path / name) for name in ("home", "beside"))
    points = tmp_path / "points"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("UF_CRASH_LOG", str(points))
        assert pipeline.run(settings(beside), as_of=MONTHS[2])["error"] is None
    passed = [line.split(" ", 1)[1] for line in points.read_text().splitlines()]
    kinds = ("before merge", "before delete", "before append silver.customers")
    points_hit = dict.fromkeys(f"{p.split('#')[0]}#1" for p in passed if p.startswith(kinds))
    assert any("merge" in point for point in points_hit), passed
    trouble = tuple((point, what) for point in points_hit for what in ("lose", "kill"))
    submitted(cluster, home, "run_all", month=2, trouble=trouble)
    assert differences(spark, home, beside) == {}
