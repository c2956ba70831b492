"""``utilityflow bench scd2``: the history engine against its peers, in one session, each given only what it can handle."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pyspark.sql import functions as F

from utilityflow.bench import _plot
from utilityflow.bench._report import conditions, keep, ready
from utilityflow.bench._scd2_data import AS_OF, ZONE, Scene, Sizes
from utilityflow.bench._scd2_peers import PEERS, make_table
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.scd2 import Outcome, apply
from utilityflow.session import get_session
from utilityflow.settings import Settings

ROWS_AT, CHANGES_AT = (0.1, 1 / 3, 1.0, 10 / 3), (0.01, 0.1, 1.0, 10.0)  # of the growth plots
Tell = Callable[..., None]
Measured = dict[str, Any]


def scd2(
    settings: Settings, *, customers: int = 3_000_000, changed: int = 100_000, late: int = 10_000, unchanged: int = 100_000,
    rounds: int = 3, peers: str = "recipe,mack,dbt,deltars,copy", growth: str = "", driver_memory: str = "6g", out: str = "",
    tell: Tell,
) -> Measured:  # fmt: skip
    """Time one batch into a large dimension: events in, history right, affected intervals out.

    :param customers: keys of the dimension; one in ten has two versions. :param changed: keys with a new change, spread at
        random. :param late: keys with a late change. :param unchanged: keys that are told again what is known.
    :param peers: who is measured beside ours, by commas. :param rounds: batches in a row, each taken by all in turn; the
        best one of each counts.
    :param growth: ``rows`` or ``changes``: ours alone at four sizes instead. :param driver_memory: of the one process; with the
        suite's small default the peers may run out of it. :param out: folder for JSON, text and picture.
    """
    contenders = [name for name in peers.split(",") if name]
    for name in contenders:
        if name not in (known := [*PEERS, "deltars", "copy"]):
            raise UtilityFlowError("UF-1004", f"there is no peer '{name}'", hint=nearest(name, known))
    if growth not in ("", "rows", "changes"):
        raise UtilityFlowError("UF-1004", f"growth '{growth}' is not known", hint=nearest(growth, ["rows", "changes"]))
    ready(out)
    settings = replace(settings, spark=replace(settings.spark, driver_memory=driver_memory))
    folder = settings.home_path / "bench-scd2"
    shutil.rmtree(folder, ignore_errors=True)
    spark = get_session("utilityflow bench scd2", settings=settings, scratch=folder / "spark")
    sizes = Sizes(customers, changed, late, unchanged)

    def measure(name: str, sizes: Sizes, rounds: int, contenders: list[str]) -> Measured:
        found = _Race(Scene(spark, folder / name, sizes), rounds, tell).run(contenders)
        shutil.rmtree(folder / name)
        return found

    try:
        tell("warming up with 20,000 customers")
        measure("warm", Sizes(20_000, 2_000, 200, 2_000), 2, [] if growth else contenders)
        if growth:
            at = [sizes.times(f, 1) for f in ROWS_AT] if growth == "rows" else [sizes.times(1, f) for f in CHANGES_AT]
            result: Measured = {"growth": growth, "series": [measure(f"{n}", one, rounds, []) for n, one in enumerate(at)]}
        else:
            result = measure("bench", sizes, rounds, contenders)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["conditions"] = {**conditions(spark), "rounds": rounds, "master": settings.spark.master,
                            "driver_memory": settings.spark.driver_memory}  # fmt: skip
    keep(out, f"scd2-{growth}" if growth else "scd2", result, summary(result), lambda: _picture(result), ending="txt")
    return result


class _Race:
    """All contenders at one size, batch by batch."""

    def __init__(self, scene: Scene, rounds: int, tell: Tell) -> None:
        self.scene, self.rounds, self.tell, self.spark = scene, rounds, tell, scene.spark
        self.folder = scene.folder

    def run(self, contenders: list[str]) -> Measured:
        s = self.scene
        self.tell(f"making a dimension of {s.sizes.customers:,} customers")
        s.events_exist()
        began = time.monotonic()
        apply(s.table, s.dimension, s.events(), None, zone=ZONE, as_of=AS_OF, scratch=str(self.folder / "first"))
        first = round(time.monotonic() - began, 1)
        shutil.rmtree(self.folder / "first")
        rows = s.table.read().count()
        row_bytes = self.detail()["sizeInBytes"] / rows
        self.make_peers([name for name in contenders if name in PEERS])
        results: dict[str, list[Measured]] = {name: [] for name in ("ours", *contenders) if name != "deltars"}
        outcome: Outcome | None = None
        for number in range(self.rounds):
            self.tell(f"batch {number + 1} of {self.rounds}: ours")
            measured, outcome = self.ours(number, row_bytes)
            results["ours"].append(measured)
            for name in results:
                if name != "ours":
                    self.tell(f"batch {number + 1} of {self.rounds}: {name}")
                    results[name].append(self.copy() if name == "copy" else self.peer(name, number))
        best = {name: min(found, key=lambda one: one["seconds"]) for name, found in results.items()}
        if "deltars" in contenders and outcome is not None:
            self.tell("delta-rs merges what ours found last")
            best["deltars"] = self.deltars(outcome)
        for name, found in results.items():
            best[name]["all_seconds"] = [one["seconds"] for one in found]
        return {
            "sizes": {"rows": rows, **s.sizes.as_dict()}, "first_load_seconds": first, "results": best,
            "ratios": _ratios(best), "targets": _targets(best),
        }  # fmt: skip

    # -- ours ------------------------------------------------------------------------------------------------------

    def ours(self, number: int, row_bytes: float) -> tuple[Measured, Outcome]:
        """One batch; then nothing at all; then the batch's keys again, when nothing has changed."""
        s = self.scene
        keys = s.news_arrive(number)
        result, outcome = self.applied(keys, f"ours-{number}")
        result |= self.metrics(s.table.path)
        # a change brings one new row and ends an old one: two rows written for each changed row are the least
        result["bytes_added_ratio"] = round(result["bytes_added"] / (outcome.inserted * row_bytes), 2)
        for name, again in (("nothing_new", keys.limit(0)), ("told_again", keys)):
            idle, same = self.applied(again, f"{name}-{number}")
            result[f"{name}_seconds"], result[f"{name}_commits"] = idle["seconds"], int(same.commit is not None)
        return result, outcome

    def applied(self, keys: Any, tag: str) -> tuple[Measured, Outcome]:
        s, scratch = self.scene, self.folder / tag
        began = time.monotonic()
        outcome = apply(
            s.table, s.dimension, s.events(), keys, zone=ZONE, as_of=AS_OF, scratch=str(scratch), intervals=True
        )
        result: Measured = {"seconds": round(time.monotonic() - began, 2)}
        return result | {"inserted": outcome.inserted, "updated": outcome.updated, "deleted": outcome.deleted}, outcome

    def detail(self) -> Any:
        return self.spark.sql(f"DESCRIBE DETAIL delta.`{self.scene.table.path}`").collect()[0]

    def metrics(self, path: str) -> Measured:
        """What the last commit says of itself."""
        said = self.spark.sql(f"DESCRIBE HISTORY delta.`{path}` LIMIT 1").collect()[0]["operationMetrics"]
        return {
            "merge_seconds": round(int(said.get("executionTimeMs", 0)) / 1000, 2),
            "rows_copied": int(said.get("numTargetRowsCopied", 0)),
            "files_added": int(said.get("numTargetFilesAdded", said.get("numFiles", 0))),
            "bytes_added": int(said.get("numTargetBytesAdded", said.get("numOutputBytes", 0))),
        }

    # -- others ----------------------------------------------------------------------------------------------------

    def make_peers(self, names: list[str]) -> None:
        s = self.scene
        rows = s.table.read().where("customer_key <> -1").select(
            *s.shape.columns, F.col("effective_date").alias("starts"), F.col("expiry_date").alias("ends"),
            (F.col("expiry_date") == F.lit("9999-12-31").cast("date")).alias("is_open"),
        )  # fmt: skip
        for name in names:
            make_table(self.spark, PEERS[name], rows, str(self.folder / name), s.shape)

    def peer(self, name: str, number: int) -> Measured:
        """A batch without what the peer would do wrong: no late changes, one change a key, no nulls."""
        path = str(self.folder / name)
        updates = self.scene.updates(number)
        began = time.monotonic()
        PEERS[name].run(self.spark, path, updates, self.scene.shape)
        return {"seconds": round(time.monotonic() - began, 2), **self.metrics(path)}

    def copy(self) -> Measured:
        """The floor: the whole table read and written once."""
        began = time.monotonic()
        self.scene.write(self.scene.table.read(), "copy", "overwrite")
        return {"seconds": round(time.monotonic() - began, 2)}

    def deltars(self, last: Outcome) -> Measured:
        """Native code: delta-rs merges the difference that ours had found into a copy without deletion vectors."""
        try:
            from deltalake import DeltaTable
        except ImportError as error:
            message = "the peer 'deltars' is not installed"
            raise UtilityFlowError("UF-1007", message, hint="pip install 'utilityflow[dev]'") from error
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        s, path = self.scene, self.folder / "deltars"
        before = s.table.read(last.commit.before if last.commit else None)
        before.write.format("delta").option("delta.enableDeletionVectors", "false").save(str(path))
        staged = pq.read_table(self.folder / f"ours-{self.rounds - 1}" / "diff-1", columns=[*s.dimension.names, "_action"])
        changes = staged.filter(pc.is_in(staged["_action"], value_set=_strings("I", "U", "D")))
        began = time.monotonic()
        (
            DeltaTable(str(path))
            .merge(changes, "target.customer_key = source.customer_key", source_alias="source", target_alias="target")
            .when_matched_delete("source._action = 'D'")
            .when_matched_update({n: f"source.{n}" for n in s.dimension.names}, "source._action = 'U'")
            .when_not_matched_insert({n: f"source.{n}" for n in s.dimension.names}, "source._action = 'I'")
            .execute()
        )
        return {"merge_seconds": round(time.monotonic() - began, 2)}


def _strings(*values: str):  # type: ignore[no-untyped-def]  # pyarrow has no types
    import pyarrow as pa

    return pa.array(values)


def _ratios(results: dict[str, Measured]) -> dict[str, dict[str, float]]:
    """How many times longer each other takes than ours: the whole, and the MERGE alone."""
    ours = results["ours"]
    return {
        name: {
            what: round(result[key] / ours[key], 2)
            for what, key in (("whole", "seconds"), ("merge", "merge_seconds"))
            if result.get(key) and ours.get(key)
        }
        for name, result in results.items()
        if name != "ours"
    }


def _targets(results: dict[str, Measured]) -> list[Measured]:
    """What was promised, what was found, and whether it holds; what was not measured is left out."""
    ours, ratios = results["ours"], _ratios(results)
    found: list[tuple[str, str, float | None, float]] = []
    for name in PEERS:
        found.append((f"whole faster than {name}", ">=", ratios.get(name, {}).get("whole"), 1.5))
        found.append((f"MERGE faster than {name}'s", ">=", ratios.get(name, {}).get("merge"), 2.0))
    if "copy" in results:
        found.append(("whole against a plain copy", "<=", round(ours["seconds"] / results["copy"]["seconds"], 2), 2.0))
    found += [
        ("rows copied", "<=", ours["rows_copied"], 0),
        ("bytes added against those of the changed rows", "<=", ours["bytes_added_ratio"], 2.2),
        ("nothing new: seconds", "<=", ours["nothing_new_seconds"], 3.0),
        ("nothing new: commits", "<=", ours["nothing_new_commits"], 0),
        ("all told again: seconds", "<=", ours["told_again_seconds"], 3.0),
        ("all told again: commits", "<=", ours["told_again_commits"], 0),
    ]
    return [
        {"what": what, "found": value, "bound": f"{sign} {bound:g}", "holds": value >= bound if sign == ">=" else value <= bound}
        for what, sign, value, bound in found
        if value is not None
    ]


# -- answers -----------------------------------------------------------------------------------------------------------


def summary(result: Measured) -> str:
    """The result as text, with bars."""
    conditions = "conditions: " + ", ".join(f"{name} {value}" for name, value in result["conditions"].items())
    if "growth" in result:
        across, panels = _growth(result)
        lines = [f"ours, by {across}"]
        for title, points in panels.items():
            lines += [title, _plot.bars([(f"{x:,.0f}", y) for x, y in points], "")]
        return "\n".join([*lines, conditions])
    ours, lines = result["results"]["ours"], [", ".join(f"{n} {v:,}" for n, v in result["sizes"].items())]
    for title, data in _bars(result).items():
        lines += [title, _plot.bars(data, "s")]
    lines.append(
        f"ours: {ours['inserted']:,} rows inserted, {ours['updated']:,} updated, {ours['deleted']:,} deleted; "
        f"of {ours['seconds']} s the MERGE, with the intervals beside it, {ours['merge_seconds']}; "
        f"first load {result['first_load_seconds']} s"
    )
    wide = max(len(one["what"]) for one in result["targets"])
    for one in result["targets"]:
        lines.append(f"  {one['what']:<{wide}} {one['found']:>8} {one['bound']:>7}  {'holds' if one['holds'] else 'MISSED'}")
    return "\n".join([*lines, conditions])


def _bars(result: Measured) -> dict[str, list[tuple[str, float]]]:
    found = result["results"]
    return {
        "whole batch, seconds": [(name, r["seconds"]) for name, r in found.items() if r.get("seconds")],
        "MERGE alone, seconds": [(name, r["merge_seconds"]) for name, r in found.items() if r.get("merge_seconds")],
    }


def _growth(result: Measured) -> tuple[str, dict[str, list[tuple[float, float]]]]:
    """What lies across, and for each panel its points: seconds, and microseconds for each row or change."""
    by, across = ("rows", "rows of the table") if result["growth"] == "rows" else ("changed", "changed keys")
    points = [(float(one["sizes"][by]), float(one["results"]["ours"]["seconds"])) for one in result["series"]]
    each = [(x, 1e6 * y / x) for x, y in points]
    return across, {"seconds a batch": points, f"microseconds a {'row' if by == 'rows' else 'change'}": each}


def _picture(result: Measured) -> bytes:
    if "growth" in result:
        across, panels = _growth(result)
        return _plot.line_picture(panels, f"history engine, {result['conditions']['cores']} cores", across)
    sizes = result["sizes"]
    title = f"{sizes['changed']:,} changes into {sizes['rows']:,} rows, {result['conditions']['cores']} cores"
    return _plot.bar_picture(_bars(result), title)


__all__ = ["scd2", "summary"]
