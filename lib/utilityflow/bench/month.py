"""``utilityflow bench month``: a whole month against the floor, one plain Spark job per feed that only copies its files."""

from __future__ import annotations

import json
import shutil
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from utilityflow.bench import _plot
from utilityflow.bench._report import keep, ready, told
from utilityflow.bench._world import World, peak_memory
from utilityflow.errors import UtilityFlowError
from utilityflow.operate import profiles
from utilityflow.settings import Settings
from utilityflow.simulate import CORE, SYSTEMS, reads
from utilityflow.simulate import customers as customers_feed

TARGETS, MEMORY_GIB = {"core": 3.5, "all": 4.0}, 20
_TYPES = {  # of the columns that are no text, by feed; numbers of JSON lines are decimals
    reads.FEED: {"read_date": "date", "kwh": "decimal(18,6)", "peak_kw": "decimal(8,2)"},
    customers_feed.FEED: {"changed_at": "timestamp", "seq": "bigint"},
}
_COPIED = (".csv", ".jsonl", ".parquet")  # the few hundred rows of workbooks and XML are not


def month(
    settings: Settings, *, customers: int = 2_000_000, systems: str = "core", form: str = "csv", rounds: int = 1,
    driver_memory: str = "10g", publish_memory: str = "4GB", out: str = "", keep_home: int = 0, tell: Any,
) -> dict[str, Any]:  # fmt: skip
    """Time the second month of a utility on a lakehouse that holds the first, whole: ledger to DuckDB.

    The floor: one Spark job per feed that reads the month's files with explicit types and writes them once to Delta (zstd, no
    statistics, no constraint, no order), one after the other, best of three.

    :param customers: of the utility. :param systems: core (customer management and usage monitoring) or all six.
    :param form: in which the reads come, csv or parquet. :param rounds: months after the first, each measured.
    :param driver_memory: of the process. :param publish_memory: of DuckDB.
    :param out: folder for JSON, Markdown and picture. :param keep_home: 1 leaves the home there.
    """
    if systems not in TARGETS:
        raise UtilityFlowError("UF-1004", f"systems are core or all, not {systems}")
    ready(out)
    world = World.make(settings, "bench-month", customers=customers, form=form, driver_memory=driver_memory,
                       publish_memory=publish_memory, tell=tell, systems=CORE if systems == "core" else SYSTEMS)  # fmt: skip
    result: dict[str, Any] = {"customers": customers, "systems": systems, "form": form, "months": []}
    world.land(1)
    result["first"] = world.run(1)
    for number in range(2, rounds + 2):
        made = world.land(number)
        floor = _floor(world, made.files)
        with peak_memory() as memory:
            done = world.run(number)
        if done["files"]["rows_read"] != sum(made.rows.values()):
            raise UtilityFlowError("UF-3006", f"the simulator wrote {sum(made.rows.values())} rows, the run read {done['files']}")
        ratio = round(done["seconds"] / floor["seconds"], 2)
        result["months"].append(done | {"month": number, "rows": made.rows, "landed_bytes": made.bytes, "floor": floor,
                                        "simulated_in": made.seconds, "ratio": ratio, "peak_gib": memory.get("gib")})  # fmt: skip
        tell(f"month {number}: {done['seconds']} s, floor {floor['seconds']} s, ratio {ratio}")
    result["sizes"], result["conditions"] = world.sizes(), world.conditions()
    keep(out, f"month-{systems}-{form}-{customers}", result, summary(result), lambda: _picture(result))
    if not keep_home:
        world.remove()
    return result


def _floor(world: World, files: tuple[Path, ...]) -> dict[str, Any]:
    spark, target = world.spark.newSession(), world.settings.home_path / "floor"
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.parquet.compression.codec", "zstd")
    spark.conf.set("spark.databricks.delta.stats.collect", "false")
    for kind in ("column", "size"):
        spark.conf.set(f"parquet.{kind}.statistics.enabled", "false")
    spark.conf.set("spark.sql.ansi.enabled", "false")
    # as many tasks as there are cores would wait for the slowest; blocks of 32 MiB come to their end together
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(32 * 1024**2))
    by_feed: dict[str, list[str]] = {}
    for file in files:
        if file.suffix in _COPIED:
            by_feed.setdefault(file.parent.name, []).append(str(file))

    def copy(feed: str) -> None:
        first = by_feed[feed][0]
        shape = {name: _TYPES.get(feed, {}).get(name, kind) for name, kind in _raw_columns(Path(first))}
        ddl = ", ".join(f"`{name}` {kind}" for name, kind in shape.items())
        if first.endswith(".csv"):
            frame = spark.read.schema(ddl).option("header", "true").csv(by_feed[feed])
        elif first.endswith(".jsonl"):
            frame = spark.read.schema(ddl).json(by_feed[feed])
        else:
            texts = spark.read.parquet(*by_feed[feed])
            frame = texts.selectExpr(*[f"CAST({name} AS {kind}) AS {name}" for name, kind in shape.items()])
        frame.write.format("delta").mode("overwrite").save(str(target / feed))

    seconds = []
    for _ in range(3):
        shutil.rmtree(target, ignore_errors=True)
        began = time.monotonic()
        for feed in sorted(by_feed):
            copy(feed)
        seconds.append(round(time.monotonic() - began, 2))
    size = sum(f.stat().st_size for f in target.rglob("*.parquet"))
    shutil.rmtree(target)
    return {"seconds": min(seconds), "all": seconds, "bytes": size}


def _raw_columns(file: Path) -> list[tuple[str, str]]:
    """Names of a landed file's columns, and the types of JSON's values (others are texts)."""
    if file.suffix == ".parquet":
        from pyarrow import parquet

        return [(name, "string") for name in parquet.read_schema(file).names]
    with file.open(encoding="utf-8") as stream:
        line = stream.readline().rstrip("\n")
    if file.suffix == ".csv":
        return [(name, "string") for name in line.split(",")]
    numbers = {int, Decimal}
    values = json.loads(line, parse_float=Decimal)
    return [(name, "decimal(18,4)" if type(value) in numbers else "string") for name, value in values.items()]


def summary(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [f"# A month of {result['customers']:,} customers, {result['systems']} systems, reads as {result['form']}", ""]
    for done in result["months"]:
        lines += [
            f"Month {done['month']}: {sum(done['rows'].values()):,} records ({done['landed_bytes'] / 1e9:.2f} GB landed) in "
            f"{done['seconds']:.1f} s; floor {done['floor']['seconds']:.1f} s (of {done['floor']['all']}); "
            f"**ratio {done['ratio']}** (target {TARGETS[result['systems']]}); "
            f"peak of resident memory {done['peak_gib']} GiB (bound {MEMORY_GIB}).",
            "", f"Records: {done['files']}", "", profiles.markdown(done["steps"]), "",
        ]  # fmt: skip
    lines.append(f"First month, on an empty lakehouse: {result['first']['seconds']:.1f} s. {told(result['conditions'])}.")
    return "\n".join(lines)


def _picture(result: dict[str, Any]) -> bytes:
    last = result["months"][-1]
    steps = sorted(((s["step"], float(s["seconds"])) for s in last["steps"] if s["status"] != "skipped"), key=lambda s: -s[1])
    panels = {"seconds": [("whole run", last["seconds"]), ("floor", last["floor"]["seconds"])], "seconds of each step": steps}
    return _plot.bar_picture(panels, f"A month of {result['customers']:,} customers, reads as {result['form']}")
