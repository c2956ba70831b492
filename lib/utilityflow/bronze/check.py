"""``utilityflow feed check``: what a feed file would make of what has landed. Writes nothing but a temporary folder."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from utilityflow.bronze.expressions import Expression, parse_expression, select_in_zone
from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.inspect import Inspection, Limits, find_files, inspect_file
from utilityflow.bronze.names import PROVENANCE
from utilityflow.bronze.readers import read_files
from utilityflow.contracts import Contract, load_contracts
from utilityflow.errors import UtilityFlowError, nearest

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

SHOWN_ROWS, SHOWN_FAILURES = 3, 20
_PERIODS = ("usage_date", "period_start", "period_end")  # a read fills one kind of period, silver derives the others


@dataclass(frozen=True)
class Failure:
    """A value that would go to quarantine: where it stands, the column and why, the raw texts that it was made of."""

    file: str
    row: int
    column: str
    problem: str
    raw: dict[str, str | None]


@dataclass(frozen=True)
class Report:
    """What a check found. ``rows``: some records, raw beside canonical; ``read``: records that were tried."""

    feed: str
    files: list[dict[str, Any]]
    read: int
    corrupt: int
    rows: list[dict[str, Any]]
    failures: list[Failure]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return dataclasses.asdict(self)


def check_feed(
    spark: SparkSession, feed: Feed, landing: Path, sample: int = 1000, *, zone: str = "UTC",
    limits: Limits | None = None,
) -> Report:  # fmt: skip
    """Try a feed on the files that have landed: the first ``sample`` records of all files together.

    :param zone: the home's zone, for a feed without ``time_zone``.
    :raises UtilityFlowError: UF-1008 no landing root; UF-1011 or UF-1012 when an expression or a column does not fit.
    """
    contract = _contract(feed)
    with tempfile.TemporaryDirectory(prefix="utilityflow-check-") as folder:
        stage = Path(folder)
        found = [inspect_file(feed, p, landing, limits, stage=stage) for p in find_files(feed, landing)]
        good = [f for f in found if f.stable and f.reason is None]
        files = [_told(f) for f in found]
        if not good:
            return Report(feed.feed, files, 0, 0, [], [])
        raw = read_files(spark, feed, good, stage)
        share = max(1, -(-sample // len(good)))
        picked = raw.where(F.col("_row_number") <= share).orderBy("_file_name", "_row_number").limit(sample)
        rows = [r.asDict() for r in _evaluated(spark, picked, feed, contract, feed.time_zone or zone).collect()]
    names = list(_mapping(feed))
    raw_names = [n for n in raw.columns if n not in PROVENANCE]
    failures = [f for row in rows for f in _failures(row, feed, contract)]
    corrupt = sum(row["_corrupt_record"] is not None for row in rows)
    shown = [_shown(row, raw_names, names) for row in rows[:SHOWN_ROWS]]
    return Report(feed.feed, files, len(rows), corrupt, shown, failures[:SHOWN_FAILURES])


def _contract(feed: Feed) -> Contract | None:
    catalog = load_contracts()
    name = f"silver.{feed.entity}"
    if name not in set(catalog):
        known = [n.removeprefix("silver.") for n in catalog if n.startswith("silver.") and "__" not in n]
        problem = f"{feed.source}: there is no entity '{feed.entity}'"
        raise UtilityFlowError("UF-1012", problem, hint=nearest(feed.entity, known))
    contract = catalog[name]
    for column in _mapping(feed):
        if column not in contract.column_names:
            hint = nearest(column, contract.column_names)
            raise UtilityFlowError("UF-1012", f"{feed.source}: {name} has no column '{column}'", hint=hint)
    return contract


def _mapping(feed: Feed) -> dict[str, Expression]:
    extra = {}
    if feed.snapshot_time is not None:
        extra["effective_at"] = parse_expression(feed.snapshot_time, f"{feed.source}: 'snapshot_time'")
    return extra | feed.expressions()


def _evaluated(spark: SparkSession, raw: DataFrame, feed: Feed, contract: Contract | None, zone: str) -> DataFrame:
    """The raw columns as ``r__x``, the canonical ones as texts ``c__x``, as the silver step makes them."""
    names = [n for n in raw.columns if n not in PROVENANCE]
    kept = raw.select(*PROVENANCE, *[F.col(n).alias(f"r__{n}") for n in names], *[_or_null(n, feed) for n in names])
    types: Mapping[str, str] = {c.name: c.type for c in contract.columns} if contract else {}
    try:
        typed = {f"c__{n}": e.cast(types.get(n, "string")) for n, e in _mapping(feed).items()}
        frame = select_in_zone(spark, kept, typed, zone)
        texts = {n: F.col(n).cast("string") for n in typed}
        return select_in_zone(spark, frame, texts, zone)
    except AnalysisException as error:
        problem = str(error).splitlines()[0]
        raise UtilityFlowError("UF-1011", f"{feed.source}: an expression does not fit: {problem}") from None


def _or_null(name: str, feed: Feed) -> Column:
    tests = [F.col(name) == text for text in feed.null_values]
    return F.when(~reduce(lambda a, b: a | b, tests, F.lit(False)), F.col(name)).alias(name)


def _failures(row: dict[str, Any], feed: Feed, contract: Contract | None) -> list[Failure]:
    place = (row["_file_name"], row["_row_number"])
    if row["_corrupt_record"] is not None:
        return [Failure(*place, "", "the record does not fit the file's layout", {"": row["_corrupt_record"]})]
    found = []
    for name, expression in _mapping(feed).items():
        raw = {c: row.get(f"r__{c}") for c in sorted(expression.columns_read)}
        value = row[f"c__{name}"]
        column = contract.column(name) if contract else None
        if value is None and any(row.get(c) is not None for c in raw):
            found.append(Failure(*place, name, "gives null although there is a text", raw))
        elif value is None and column is not None and column.required and name not in _PERIODS:
            found.append(Failure(*place, name, "is required and null", raw))
        elif value is not None and column is not None and column.length and len(value.strip()) > column.length:
            found.append(Failure(*place, name, f"is longer than {column.length}", raw))
    return found


def _shown(row: dict[str, Any], raw_names: list[str], names: list[str]) -> dict[str, Any]:
    return {
        "file": row["_file_name"],
        "row": row["_row_number"],
        "raw": {n: row[f"r__{n}"] for n in raw_names},
        "canonical": {n: row[f"c__{n}"] for n in names},
    }


def _told(file: Inspection) -> dict[str, Any]:
    status = "ready" if file.stable and file.reason is None else ("rejected" if file.stable else "not stable yet")
    return {
        "file": file.file_name,
        "status": status,
        "records": file.records,
        "reason": None if file.reason is None else str(file.reason),
        "notes": list(file.notes),
    }


# -- text --------------------------------------------------------------------------------------------------------------


def render(report: Report) -> str:
    """The report as a text for people."""
    lines = [f"feed {report.feed}: {len(report.files)} file(s)"]
    for file in report.files:
        count = "" if file["records"] is None else f", {file['records']} records"
        lines.append(f"  {file['file']}: {file['status']}{count}")
        lines += [f"    {text}" for text in [file["reason"], *file["notes"]] if text]
    for row in report.rows:
        lines += ["", f"{row['file']} record {row['row']}", *_table(row["raw"], row["canonical"])]
    lines += ["", f"{report.read} records tried, {report.corrupt} corrupt, {len(report.failures)} failures shown"]
    for failure in report.failures:
        raw = ", ".join(f"{name or 'raw'}={_cell(text)}" for name, text in failure.raw.items())
        what = f"{failure.column} {failure.problem}".strip()
        lines.append(f"  {failure.file} record {failure.row}: {what}: {raw}")
    return "\n".join(lines)


def _table(raw: dict[str, Any], canonical: dict[str, Any]) -> list[str]:
    left = [(n, _cell(v)) for n, v in raw.items()]
    right = [(n, _cell(v)) for n, v in canonical.items()]
    height = max(len(left), len(right))
    left += [("", "")] * (height - len(left))
    right += [("", "")] * (height - len(right))
    widths = [max(len(pair[i]) for pair in side) for side in (left, right) for i in (0, 1)]
    rows = [("raw", "", "canonical", ""), *[(*a, *b) for a, b in zip(left, right, strict=True)]]
    widths[0], widths[2] = max(widths[0], 3), max(widths[2], 9)
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [f"  {line}".rstrip() for line in padded]


def _cell(value: str | None) -> str:
    if value is None:
        return "NULL"
    text = "".join(c if c.isprintable() else "." for c in value)
    return f"'{text[:37]}...'" if len(text) > 40 else f"'{text}'"
