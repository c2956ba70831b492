"""``utilityflow bench scd2``: the history engine against its peers, in one session, each given only what it can handle."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from utilityflow.bench import _plot
from utilityflow.bench._scd2_peers import PEERS, Shape, make_table, run_peer
from utilityflow.contracts import load_contracts
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.lakehouse import Lakehouse, Table
from utilityflow.scd2 import Dimension, Outcome, apply
from utilityflow.session import get_session
from utilityflow.settings import Settings

ZONE, AS_OF, NAME = "UTC", dt.date(2026, 1, 1), "gold.dim_customer"
STEP = 7919  # a prime: keys picked by it lie spread over all files
Tell = Callable[..., None]


def scd2(
    settings: Settings, *, rows: int = 3_000_000, changed: int = 100_000, late: int = 10_000, unchanged: int = 100_000,
    rounds: int = 1, peers: str = "recipe,mack,dbt,deltars,copy", growth: str = "", out: str = "", tell: Tell,
) -> dict[str, Any]:  # fmt: skip
    """Time one batch into a large dimension: events in, history right, affected intervals out.

    :param rows: rows of the dimension (one key in eleven has two). :param changed: keys with a new change, spread at random.
    :param late: keys with a late change. :param unchanged: keys that are told again what is known.
    :param peers: who is measured beside ours, by commas. :param rounds: batches in a row; the best one counts.
    :param growth: ``rows`` or ``changes``: ours alone at several sizes instead. :param out: folder for JSON and plots.
    """
    contenders = [name for name in peers.split(",") if name]
    for name in contenders:
        if name not in (*PEERS, "deltars", "copy"):
            raise UtilityFlowError("UF-1004", f"there is no peer '{name}'", hint=nearest(name, [*PEERS, "deltars", "copy"]))
    folder = settings.home_path / "bench-scd2"
    shutil.rmtree(folder, ignore_errors=True)
    spark = get_session("utilityflow bench scd2", settings=settings, scratch=folder / "spark")
    try:
        tell("warming up")
        _Bench(spark, folder / "warm", 20_000, 2_000, 200, 2_000, 1, tell).run(contenders)
        if growth:
            result = _growth(spark, folder, growth, rows, changed, late, unchanged, tell)
        else:
            result = _Bench(spark, folder / "bench", rows, changed, late, unchanged, rounds, tell).run(contenders)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["conditions"] = {
        "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "spark": spark.version,
        "python": platform.python_version(), "master": settings.spark.master, "driver_memory": settings.spark.driver_memory,
        "at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    }  # fmt: skip
    if out:
        _write(Path(out), result)
    return result


class _Bench:
    """Data, our dimension and the batch of one size."""

    def __init__(
        self, spark: SparkSession, folder: Path, rows: int, changed: int, late: int, unchanged: int, rounds: int, tell: Tell
    ) -> None:
        self.spark, self.folder, self.rounds, self.tell = spark, folder, rounds, tell
        self.keys = max(rows * 10 // 11, 1)
        self.counts = {"changed": changed, "late": late, "unchanged": unchanged}
        folder.mkdir(parents=True)
        contract = load_contracts()[NAME]
        self.dimension = Dimension.from_contract(contract)
        self.table = Lakehouse(spark, str(folder / "lake"), {NAME: contract}).table(NAME)  # type: ignore[arg-type]
        # what a batch really brings: the columns of the mission's DDL and our type-1 ones
        self.shape = Shape(self.dimension.key[0], self.dimension.type2, self.dimension.attributes)
        self.sizes = {"rows": rows, "keys": self.keys, **self.counts}

    def run(self, contenders: list[str]) -> dict[str, Any]:
        """All measurements of this size."""
        first = self.load()
        results: dict[str, Any] = {}
        for name in contenders:
            if name in PEERS:
                self.make_peer(name)
        results["ours"] = self.ours()
        for name in contenders:
            self.tell(f"measuring {name}")
            results[name] = {"copy": self.copy, "deltars": self.deltars}.get(name, lambda name=name: self.peer(name))()
        return {"sizes": self.sizes, "first_load_seconds": first, "results": results, "ratios": _ratios(results)}

    # -- data ------------------------------------------------------------------------------------------------------

    def load(self) -> float:
        """The standing events and the dimension that they make; returns the seconds of the dimension's first load."""
        self.tell(f"making {self.sizes['rows']:,} rows")
        one = self.spark.range(self.keys)
        two = self.spark.range(0, self.keys, 10)
        base = self.told(one, "2024-01-01", "a").unionByName(self.told(two, "2024-07-01", "b"))
        self.write(base.withColumn("_row_number", F.col("n")).drop("n"), "events", "append")
        self.table.ensure()
        began = time.monotonic()
        apply(self.table, self.dimension, self.events(), None, zone=ZONE, as_of=AS_OF, scratch=str(self.folder / "first"))
        seconds = time.monotonic() - began
        shutil.rmtree(self.folder / "first")
        return round(seconds, 1)

    def told(self, numbers: DataFrame, day: str, state: str) -> DataFrame:
        """Events of the numbered customers: their state in seven attributes, three type-1 ones."""
        n = F.col("id")
        code = F.sha2(F.concat(n.cast("string"), F.lit(state)), 256)
        fixed = F.sha2(n.cast("string"), 256)
        return numbers.select(
            F.format_string("C%09d", n).alias("customer_id"),
            F.concat(F.lit("Customer "), F.substring(fixed, 1, 12)).alias("customer_name"),
            F.concat(F.substring(code, 1, 4), F.lit(" "), F.substring(code, 5, 10), F.lit(" Street")).alias("address"),
            F.concat(F.lit("City "), F.substring(code, 15, 2)).alias("city"),
            F.concat(F.lit("S"), F.substring(fixed, 3, 1)).alias("state"),
            F.substring(code, 20, 5).alias("zip_code"),
            F.when(F.col("id") % 10 < 8, "residential").otherwise("commercial").alias("customer_type"),
            F.lit("active").alias("account_status"),
            F.concat(F.lit("T"), F.substring(fixed, 7, 1)).alias("tariff_group"),
            F.concat(F.lit("D"), F.substring(fixed, 9, 2)).alias("district"),
            F.concat(F.lit("R"), F.substring(fixed, 11, 1)).alias("region"),
            F.to_timestamp(F.lit(f"{day} 12:00:00")).alias("effective_at"),
            F.lit(1).cast("bigint").alias("sequence"), F.lit("upsert").alias("operation"),
            F.lit("0" * 64).alias("_file_sha256"), (n + F.lit(0)).alias("n"),
        )  # fmt: skip

    def picked(self, count: int, start: int, every: int = 1) -> DataFrame:
        """``count`` customers spread over all; ``every`` 10 picks those with two versions."""
        among = max(self.keys // every, 1)
        return self.spark.range(start, start + count).select(((F.col("id") * STEP) % among * every).alias("id")).distinct()

    def batch(self, number: int) -> dict[str, DataFrame]:
        """The events of batch ``number`` by kind; each batch changes other keys."""
        changed, unchanged, late = (self.counts[n] for n in ("changed", "unchanged", "late"))
        start = number * (changed + unchanged)
        day = f"2025-{number % 12 + 1:02d}-10"
        return {
            "changed": self.told(self.picked(changed, start), day, f"c{number}"),
            "unchanged": self.told(self.picked(unchanged, start + changed).where("id % 10 <> 0"), "2024-06-01", "a"),
            "late": self.told(self.picked(late, number * late, 10), "2024-03-01", f"l{number}"),
        }

    def write(self, frame: DataFrame, name: str, mode: str) -> None:
        writer = frame.write.format("delta").mode(mode).option("delta.dataSkippingStatsColumns", "customer_id")
        writer.save(str(self.folder / name))

    def events(self) -> DataFrame:
        """All standing events."""
        return self.spark.read.format("delta").load(str(self.folder / "events"))

    # -- ours ------------------------------------------------------------------------------------------------------

    def ours(self) -> dict[str, Any]:
        """Apply each batch and its intervals; then the last one's keys again, when nothing changes."""
        best: dict[str, Any] = {}
        for number in range(self.rounds):
            self.tell(f"measuring ours, batch {number + 1}")
            arrived = [f.withColumn("_row_number", F.col("n")).drop("n") for f in self.batch(number).values()]
            news = arrived[0].unionByName(arrived[1]).unionByName(arrived[2])
            self.write(news, f"news-{number}", "overwrite")
            self.write(self.spark.read.format("delta").load(str(self.folder / f"news-{number}")), "events", "append")
            result, outcome = self.apply(number, f"ours-{number}")
            if not best or result["seconds"] < best["seconds"]:
                best = result
            idle, same = self.apply(number, f"idle-{number}")
            best["nothing_changed_seconds"] = min(best.get("nothing_changed_seconds", 1e9), idle["seconds"])
            best["nothing_changed_commits"] = best.get("nothing_changed_commits", 0) + (same.commit is not None)
            self.last = outcome
        return best

    def apply(self, number: int, tag: str) -> tuple[dict[str, Any], Outcome]:
        keys = self.spark.read.format("delta").load(str(self.folder / f"news-{number}")).select("customer_id")
        scratch = self.folder / tag
        began = time.monotonic()
        outcome = apply(self.table, self.dimension, self.events(), keys, zone=ZONE, as_of=AS_OF, scratch=str(scratch))
        applied = time.monotonic() - began
        outcome.intervals.write.mode("overwrite").parquet(str(scratch / "intervals"))
        result: dict[str, Any] = {"seconds": round(time.monotonic() - began, 2), "apply_seconds": round(applied, 2)}
        result |= {"inserted": outcome.inserted, "updated": outcome.updated, "deleted": outcome.deleted}
        if outcome.commit is not None:
            result |= self.metrics(self.table.path)
            size, count = self.size(), int(self.table.read().count())
            written = (outcome.inserted + outcome.updated) * size / count
            result["bytes_added_ratio"] = round(result["bytes_added"] / written, 2)
        return result, outcome

    def size(self) -> int:
        return int(self.spark.sql(f"DESCRIBE DETAIL delta.`{self.table.path}`").collect()[0]["sizeInBytes"])

    def metrics(self, path: str) -> dict[str, Any]:
        """What the last commit says of itself."""
        said = self.spark.sql(f"DESCRIBE HISTORY delta.`{path}` LIMIT 1").collect()[0]["operationMetrics"]
        return {
            "merge_seconds": round(int(said.get("executionTimeMs", 0)) / 1000, 2),
            "rows_copied": int(said.get("numTargetRowsCopied", 0)),
            "files_added": int(said.get("numTargetFilesAdded", said.get("numFiles", 0))),
            "bytes_added": int(said.get("numTargetBytesAdded", said.get("numOutputBytes", 0))),
        }

    # -- others ----------------------------------------------------------------------------------------------------

    def make_peer(self, name: str) -> None:
        rows = self.table.read().where("customer_key <> -1").select(
            *self.shape.columns, F.col("effective_date").alias("starts"), F.col("expiry_date").alias("ends"),
            (F.col("expiry_date") == F.lit("9999-12-31").cast("date")).alias("is_open"),
        )  # fmt: skip
        make_table(self.spark, PEERS[name], rows, str(self.folder / name), self.shape)

    def peer(self, name: str) -> dict[str, Any]:
        best: dict[str, Any] = {}
        peer, path = PEERS[name], str(self.folder / name)
        for number in range(self.rounds):
            batch = self.batch(number)
            news = batch["changed"].unionByName(batch["unchanged"]) if peer.takes_unchanged else batch["changed"]
            news = news.select(*self.shape.columns, F.to_date("effective_at").alias("starts"))
            self.write(news, f"news-{name}-{number}", "overwrite")
            updates = self.spark.read.format("delta").load(str(self.folder / f"news-{name}-{number}"))
            began = time.monotonic()
            run_peer(self.spark, peer, path, updates, self.shape)
            result = {"seconds": round(time.monotonic() - began, 2), **self.metrics(path)}
            if not best or result["seconds"] < best["seconds"]:
                best = result
        return best

    def copy(self) -> dict[str, Any]:
        """The floor: the whole table read and written once."""
        began = time.monotonic()
        self.write(self.table.read(), "copy", "overwrite")
        return {"seconds": round(time.monotonic() - began, 2), **self.metrics(str(self.folder / "copy"))}

    def deltars(self) -> dict[str, Any]:
        """Native code: delta-rs merges the difference that ours had found into a copy without deletion vectors."""
        try:
            from deltalake import DeltaTable
        except ImportError:
            return {"skipped": "deltalake is not installed"}
        import pyarrow.parquet as pq

        path = self.folder / "deltars"
        before = self.table.read(self.last.commit.before if self.last.commit else None)
        before.write.format("delta").option("delta.enableDeletionVectors", "false").save(str(path))
        staged = pq.read_table(self.folder / f"ours-{self.rounds - 1}" / "diff-1")
        table = staged.select([*self.dimension.names, "_action"])
        began = time.monotonic()
        (
            DeltaTable(str(path))
            .merge(table, "target.customer_key = source.customer_key", source_alias="source", target_alias="target")
            .when_matched_delete("source._action = 'D'")
            .when_matched_update({n: f"source.{n}" for n in self.dimension.names}, "source._action = 'U'")
            .when_not_matched_insert({n: f"source.{n}" for n in self.dimension.names}, "source._action = 'I'")
            .execute()
        )
        return {"merge_seconds": round(time.monotonic() - began, 2), "seconds": None}


def _growth(
    spark: SparkSession, folder: Path, growth: str, rows: int, changed: int, late: int, unchanged: int, tell: Tell
) -> dict[str, Any]:
    """Ours at several sizes: rows of the table at fixed changes, or changes at fixed rows."""
    if growth not in ("rows", "changes"):
        raise UtilityFlowError("UF-1004", f"growth '{growth}' is not known", hint=nearest(growth, ["rows", "changes"]))
    series = []
    for factor in (0.1, 1 / 3, 1.0, 10 / 3) if growth == "rows" else (0.01, 0.1, 1.0, 10.0):
        size = int(rows * factor) if growth == "rows" else rows
        share = 1.0 if growth == "rows" else factor
        place = folder / f"{growth}-{factor:.2f}"
        bench = _Bench(spark, place, size, int(changed * share), int(late * share), int(unchanged * share), 1, tell)
        found = bench.run([])
        series.append({**found["sizes"], **found["results"]["ours"], "first_load_seconds": found["first_load_seconds"]})
        shutil.rmtree(place)
    return {"growth": growth, "series": series}


def _ratios(results: dict[str, Any]) -> dict[str, Any]:
    """How many times longer each other takes than ours: the whole, and the MERGE alone."""
    ours = results["ours"]
    found: dict[str, Any] = {}
    for name, result in results.items():
        if name == "ours":
            continue
        found[name] = {
            what: round(result[key] / ours[key], 2)
            for what, key in (("whole", "seconds"), ("merge", "merge_seconds"))
            if result.get(key) and ours.get(key)
        }
    return found


def summary(result: dict[str, Any]) -> str:
    """The result as text, with bars."""
    if "growth" in result:
        by = "rows" if result["growth"] == "rows" else "changed"
        head = f"ours, by {'rows of the table' if by == 'rows' else 'changed keys'}"
        return head + "\n" + _plot.bars([(f"{s[by]:,}", s["seconds"]) for s in result["series"]], "s")
    sizes = ", ".join(f"{n} {v:,}" for n, v in result["sizes"].items())
    whole = [(name, r["seconds"]) for name, r in result["results"].items() if r.get("seconds")]
    merge = [(name, r["merge_seconds"]) for name, r in result["results"].items() if r.get("merge_seconds")]
    ours = result["results"]["ours"]
    ratios = "; ".join(f"{name} {' '.join(f'{k} {v}x' for k, v in r.items())}" for name, r in result["ratios"].items() if r)
    return "\n".join(
        [sizes, "whole, seconds", _plot.bars(whole, "s"), "MERGE alone, seconds", _plot.bars(merge, "s"),
         f"ours: rows copied {ours.get('rows_copied')}, bytes added {ours.get('bytes_added_ratio')}x those of the changed rows,",
         f"nothing changed: {ours['nothing_changed_seconds']} s, {ours['nothing_changed_commits']} commits;"
         f" first load {result['first_load_seconds']} s", f"longer than ours: {ratios}"]
    )  # fmt: skip


def _write(folder: Path, result: dict[str, Any]) -> None:
    """JSON, text and PNG beside each other."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"scd2-{result['growth']}" if "growth" in result else "scd2"
    (folder / f"{name}.json").write_text(json.dumps(result, indent=2, default=str), encoding="utf-8")
    (folder / f"{name}.txt").write_text(summary(result) + "\n", encoding="utf-8")
    if "growth" in result:
        by = "rows" if result["growth"] == "rows" else "changed"
        data = [(f"{s[by]:,}", s["seconds"]) for s in result["series"]]
    else:
        data = [(n, r["seconds"]) for n, r in result["results"].items() if r.get("seconds")]
    (folder / f"{name}.png").write_bytes(_plot.png(data, "seconds"))


__all__ = ["Table", "scd2", "summary"]
