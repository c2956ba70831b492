"""``utilityflow bench defects``: what the suite made of the defects that the simulator planted, against its ledger."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import Window
from pyspark.sql import functions as F

from utilityflow.bench._report import keep, table
from utilityflow.control.home import hold
from utilityflow.control.ledger import Entry
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.scene import Scene, open_scene
from utilityflow.session import local_frame
from utilityflow.settings import Settings
from utilityflow.silver.judging import canonical_columns, judged, raw_rows
from utilityflow.simulate.defects import GONE, WHOLE
from utilityflow.simulate.operations import FOLDER
from utilityflow.simulate.score import (
    LOGGED,
    ROW,
    SYSTEMS,
    false_alarms,
    figures,
    outcomes,
    placed,
    placed_in_log,
    read_ledger,
)
from utilityflow.simulate.score_tables import SHOWS, STATES, loudest, placed_in_states

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

EXAMPLES = 5
# of records that never came: entity -> gold's table, the columns that name them there, which of its rows say so, the signal
MISSED_BY_GOLD = {
    "meter_reads": ("gold.fact_usage", ["meter_id", "period_start"], "array_contains(quality_flags, 'incomplete_day')",
                    "incomplete_day"),
    "customers": ("gold.dim_customer", ["customer_id"], "is_inferred", "is_inferred"),
    "accounts": ("gold.dim_account", ["account_id"], "is_inferred", "is_inferred"),
}  # fmt: skip


def defects(settings: Settings, *, defects: str = "", out: str = "", tell: Callable[[str], None]) -> dict[str, Any]:
    """Score a home's quarantine and silver against the ledger of planted defects; no table changes.

    :param defects: the ledger's folder; the home's ``defects`` when empty.
    :param out: folder that gets defects.json and defects.md; none when empty.
    :returns: ``kinds``, ``total`` and ``false_alarms`` (simulate.score.figures), ``files`` (scored, under_fault: what landed is
        known to be wrong and comes again, not_landed), ``fits`` (whether each entry was found), ``unmatched`` (first examples).
    :raises UtilityFlowError: UF-1004 when there is no ledger, UF-1008 when there is no lakehouse, UF-4004 while a run holds
        the home.
    """
    folder = Path(defects) if defects else settings.home_path / "defects"
    if not any((folder / feed).is_dir() for feed in SYSTEMS):
        hint = "--defects names the folder that 'utilityflow simulate' wrote it to"
        raise UtilityFlowError("UF-1004", f"there is no ledger of planted defects in {folder}", hint=hint)
    scene = open_scene(settings)
    counted: list[dict[str, Any]] = []
    alarms: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    files = {"scored": 0, "under_fault": 0, "not_landed": 0}
    with hold(scene.home, "bench defects"), tempfile.TemporaryDirectory(prefix="utilityflow-") as stage:
        for feed in SYSTEMS:
            if (folder / feed).is_dir():
                tell(f"scoring {feed}")
                score = _Score.of(scene, folder, feed, Path(stage) / feed)
                counted += score.counted()
                alarms += score.alarms()
                examples += score.unmatched()
                files = {what: count + score.files[what] for what, count in files.items()}
    result = {"home": str(scene.home.path), "ledger": str(folder), "files": files,
              "fits": not examples, "unmatched": examples, **figures(counted, alarms)}  # fmt: skip
    keep(out, "defects", result, summary(result))
    return result


@dataclass(frozen=True)
class _Score:
    """One ledger folder against the suite: its entries with their rows, and the tables of the contents that they lie in."""

    scene: Scene
    folder: str
    contents: Mapping[str, Entry]  # stem -> what stands under that name now
    files: Mapping[str, int]
    found: DataFrame
    stage: Path

    @classmethod
    def of(cls, scene: Scene, ledger: Path, folder: str, stage: Path) -> _Score:
        """Find the row of each entry; the result is staged, since everything asks for it."""
        stems = {file.stem for file in (ledger / folder).glob("*.csv")}
        wrong = _wrong_contents(ledger)
        named = {Path(name).stem: e for e in scene.ledger.entries.values() if e.status == "loaded"
                 for name in e.names if Path(name).parent.name == folder}  # fmt: skip
        standing = {stem: e for stem, e in named.items() if stem in stems or folder in LOGGED or folder in STATES}
        contents = {stem: e for stem, e in standing.items() if e.sha256 not in wrong}
        spark, key = scene.house.spark, SYSTEMS[folder][1]
        entries = read_ledger(spark, ledger / folder, stage / "ledger")
        texts = dict.fromkeys((*key, *LOGGED.get(folder, ())))
        nothing = ", ".join([f"{ROW[0]} string", f"{ROW[1]} bigint", *(f"{n} string" for n in texts)])
        raw = local_frame(spark, [], nothing)
        for feed, some in _by_feed(contents).items():
            rows = raw_rows(scene.run(), scene.feeds[feed], some).select(*ROW, *_raw_columns(scene, feed))
            raw = raw.unionByName(rows, allowMissingColumns=True)
        if folder in LOGGED:
            found, landed = placed_in_log(entries, raw, key, folder, scene.home.zone)
            scored, there = len(stems & landed), landed
        elif folder in STATES:
            found, there = placed_in_states(entries, raw, key, folder, stems)
            scored = len(there)
        else:
            frame = local_frame(spark, [(s, e.sha256) for s, e in contents.items()], "stem string, _file_sha256 string")
            found = placed(entries, frame, raw, key)
            scored, there = len(contents), set(named)
        found.write.parquet(str(stage / "found"))
        counts = {"scored": scored, "under_fault": len(standing) - len(contents), "not_landed": len(stems - there)}
        return cls(scene, folder, contents, counts, spark.read.parquet(str(stage / "found")), stage)

    def counted(self) -> list[dict[str, Any]]:
        """Entries by kind, column, outcome and signals."""
        by = ["kind", "column", "outcome", "signals"]
        told = []
        for feed in _by_feed(self.contents):
            seen = loudest(self._outcomes(feed)) if self.folder in STATES else self._outcomes(feed)
            rows = seen.groupBy(*by).agg(F.count(F.lit(1)).alias("rows")).collect()
            told += [self._named(row.asDict()) for row in rows]
        gone = self._gone().groupBy(*by).agg(F.count(F.lit(1)).alias("rows")).collect()
        told += [self._named(row.asDict()) for row in gone]
        lost = F.expr("if(landed, 'unmatched', 'not landed')").alias("outcome")
        rest = self.found.where(F.col("_row_number").isNull() & ~_never_came()).select("kind", "column", lost)
        rows = rest.groupBy("kind", "column", "outcome").agg(F.count(F.lit(1)).alias("rows")).collect()
        return told + [self._named(row.asDict()) | {"signals": []} for row in rows]

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"system": SYSTEMS[self.folder][0], **row}

    def _outcomes(self, feed: str) -> DataFrame:
        """The entries of one feed's contents, with what became of their rows."""
        run, entries = self.scene.run(), _by_feed(self.contents)[feed]
        silver, fence = self._tables(feed)
        found = self.found.where(
            F.col("_row_number").isNotNull() & F.col("_file_sha256").isin([e.sha256 for e in entries])
        )
        raw = raw_rows(run, self.scene.feeds[feed], entries)
        names = _raw_columns(self.scene, feed)
        # one row of each record, also where a defect sits in two columns of it; nothing is wrong in one that is repeated or late
        told = [F.max(F.when(_shows(found, n) & ~F.col("kind").isin(*WHOLE), F.col("clean_value"))).alias(f"_clean_{n}")
                for n in names]  # fmt: skip
        cleaned = raw.join(F.broadcast(found.groupBy(*ROW).agg(*told)), [*ROW])
        values = {n: F.coalesce(f"_clean_{n}", n) for n in names}
        clean, _ = judged(run, self.scene.feeds[feed], entries, cleaned.withColumns(values).select(*raw.columns))
        contract = self.scene.contracts[f"silver.{self.scene.feeds[feed].entity}"]
        return outcomes(found, clean, silver, fence, canonical_columns(contract))

    def _gone(self) -> DataFrame:
        """The entries of records that are in no file: flagged where gold says that something is missing, else missed."""
        lost = self.found.where(_never_came())
        feed = next(iter(_by_feed(self.contents)), None)
        if feed is None or lost.isEmpty():
            return lost.selectExpr("kind", "column", "'' AS outcome", "cast(array() AS array<string>) AS signals").limit(0)
        run, entries, entity = self.scene.run(), _by_feed(self.contents)[feed], self.scene.feeds[feed].entity
        numbered = lost.withColumn("_number", F.row_number().over(Window.orderBy("stem", "line")).cast("bigint"))
        numbered.write.parquet(str(self.stage / "gone"))
        numbered = self.scene.house.spark.read.parquet(str(self.stage / "gone"))
        signals = F.expr("cast(array() AS array<string>)")
        if entity in MISSED_BY_GOLD and self.scene.house.table(MISSED_BY_GOLD[entity][0]).exists():
            name, columns, says, signal = MISSED_BY_GOLD[entity]
            # what the suite would have made of them, so that they are named as gold names them
            parts, raw = F.split("row_key", "[|]", -1), raw_rows(run, self.scene.feeds[feed], entries)
            values = {n: F.when(F.col("column") == n, F.col("clean_value")) for n in _raw_columns(self.scene, feed)}
            values |= {n: parts[i] for i, n in enumerate(SYSTEMS[self.folder][1])}
            values |= {"_row_number": F.col("_number"), "_batch_id": F.lit(0)}
            cells = [values.get(f.name, F.lit(None)).cast(f.dataType).alias(f.name) for f in raw.schema.fields]
            named, _ = judged(run, self.scene.feeds[feed], entries, numbered.select(*cells))
            said = self.scene.house.table(name).read().where(says).select(*columns).distinct()
            told = named.join(said, columns, "left_semi").selectExpr("_row_number AS _number", "true AS _told")
            numbered = numbered.join(told, "_number", "left")
            signals = F.when(F.col("_told"), F.array(F.lit(signal))).otherwise(signals)
        outcome = F.when(F.size(signals) > 0, "flagged").otherwise("missed").alias("outcome")
        return numbered.select("kind", "column", outcome, signals.alias("signals"))

    def alarms(self) -> list[dict[str, Any]]:
        """Signalled rows without a planted defect."""
        frames = [false_alarms(self.found, *self._tables(feed)) for feed in _by_feed(self.contents)]
        return [self._named(row.asDict()) for frame in frames for row in frame.collect()]

    def _tables(self, feed: str) -> tuple[DataFrame, DataFrame]:
        """Silver and quarantine, but of the contents scored only."""
        entity = self.scene.feeds[feed].entity
        mine = F.col(ROW[0]).isin([e.sha256 for e in _by_feed(self.contents)[feed]])
        return tuple(
            self.scene.house.table(f"silver.{entity}{tail}").read().where(mine) for tail in ("", "__quarantine")
        )  # type: ignore[return-value]

    def unmatched(self) -> list[dict[str, Any]]:
        """The first entries that no row of their file fits; no values, which may be personal."""
        lost = self.found.where(F.expr("landed AND _row_number IS NULL") & ~_never_came())
        lost = lost.select("file", "kind", "column", "line").orderBy("file", "line")
        return [row.asDict() for row in lost.limit(EXAMPLES).collect()]


def _shows(found: DataFrame, name: str) -> Column:
    """Whether an entry's defect shows in a raw column of its record."""
    return F.array_contains(SHOWS, name) if SHOWS in found.columns else F.col("column") == name


def _never_came() -> Column:
    """Whether an entry is of a record that is not in its file, although that has landed."""
    return F.col("landed") & F.col("kind").isin(*GONE)


def _by_feed(contents: Mapping[str, Entry]) -> dict[str, list[Entry]]:
    """Feed -> its contents, each once: two names can hold one."""
    found: dict[str, dict[str, Entry]] = {}
    for entry in contents.values():
        found.setdefault(entry.feed, {})[entry.sha256] = entry
    return {feed: list(some.values()) for feed, some in sorted(found.items())}


def _raw_columns(scene: Scene, feed: str) -> list[str]:
    bronze = scene.house.table(f"bronze.{feed}")
    return [n for n in bronze.read().columns if n not in bronze.contract.column_names]


def _wrong_contents(ledger: Path) -> set[str]:
    """SHA-256 of what landed cut or wrong and comes again: the simulator's list of operational faults says so."""
    found: set[str] = set()
    for file in sorted((ledger / FOLDER).glob("*.csv")):
        with file.open(newline="", encoding="utf-8") as stream:
            found |= {row["first_sha256"] for row in csv.DictReader(stream) if row["first_sha256"]}
    return found


def summary(result: Mapping[str, Any]) -> str:
    """The figures as Markdown: a table of the kinds, false alarms, and what cannot be scored."""
    counts = ("planted", "quarantined", "flagged", "repaired", "missed", "repeat", "not_landed", "unmatched")
    heads = [
        "system",
        "kind",
        "column",
        *(c.replace("_", " ") for c in counts),
        "recall",
        "false alarms",
        "precision",
        "by",
    ]
    rows = [_line(k, counts, [k["system"], k["kind"], k["column"]], ", ".join(k["signals"])) for k in result["kinds"]]
    rows.append(_line(result["total"], counts, ["**all**", "", ""], ""))
    lines = ["# Planted defects", "", table(heads, rows), "", "Signalled rows without a planted defect:", ""]
    alarms = [[a["system"], a["signal"], a["severity"], f"{a['rows']:,}"] for a in result["false_alarms"]]
    lines.append(table(["system", "rule or flag", "severity", "rows"], alarms) if alarms else "none")
    files = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in result["files"].items())
    lines += ["", f"files: {files}"]
    if not result["fits"]:
        places = "; ".join(f"{u['file']} line {u['line']} ({u['kind']} of {u['column']})" for u in result["unmatched"])
        lines += [
            "",
            f"THE LEDGER DOES NOT FIT WHAT LANDED: {result['total']['unmatched']:,} entries have no row, first: {places}",
        ]
    return "\n".join(lines)


def _line(one: Mapping[str, Any], counts: tuple[str, ...], names: list[str], by: str) -> list[str]:
    shares = {n: "-" if one[n] is None else f"{100 * one[n]:.2f} %" for n in ("recall", "precision")}
    return [
        *names,
        *(f"{one[c]:,}" for c in counts),
        shares["recall"],
        f"{one['false_alarms']:,}",
        shares["precision"],
        by,
    ]
