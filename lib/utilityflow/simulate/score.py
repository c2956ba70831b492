"""The scorer's joins: which row of which landed content a ledger entry speaks of, and what became of the row.

**How a row is found.** The ledger names the landed file and clean key values, not the row's number. Its file stands in the file
ledger with the content (SHA-256) that counts now; in that content the row is one whose raw key and defective column hold what
the entry planted. Several rows can be alike in these (a circuit's reads without their meter, a read sent twice). Both files come
from one query in one order, so the first of the alike entries is the first of the alike rows, and so on: exact as long as there
are as many rows as entries. Where there are not, the ledger does not fit what landed, and none of the alike is scored.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from utilityflow.contracts import sql_text
from utilityflow.errors import UtilityFlowError
from utilityflow.simulate import (
    agreements,
    audit_trail,
    bills,
    charging_reads,
    customer_database,
    customers,
    filing_register,
    gas_reads,
    outages,
    payments,
    planted,
    reads,
    requests,
    service_points,
)
from utilityflow.simulate.defects import AGAIN, GONE, LEDGER_COLUMNS, WHOLE

SYSTEMS = {
    **{of.FEED: (of.SYSTEM, of.KEY) for of in (customers, reads, charging_reads, gas_reads, bills, payments, requests)},
    **{of.FEED: (of.SYSTEM, of.KEY) for of in (service_points, outages)},
    **{of.FEED: (planted.SYSTEM, of.KEY) for of in (filing_register, audit_trail)},
    agreements.ACCOUNTS_FEED: (agreements.SYSTEM, agreements.ACCOUNT_KEY),
    agreements.FEED: (agreements.SYSTEM, agreements.KEY),
    customer_database.FEED: (customer_database.SYSTEM, customers.KEY),
    requests.DESK_FEED: (requests.SYSTEM, requests.KEY),
}
# of these an extract lands the rows in files of its own: raw columns that say where a ledger speaks of a row
LOGGED = {customer_database.FEED: ("batch", "change_no"), requests.DESK_FEED: ("updated_at",)}
ROW = ("_file_sha256", "_row_number")
CAUGHT, OUTCOMES = ("quarantined", "flagged"), ("quarantined", "flagged", "repaired", "missed", "repeat")
EQUAL_RECORD = "equal_record"  # the signal of a repeat that silver left out
_NO_TEXTS = "cast(array() AS array<string>)"


def read_ledger(spark: SparkSession, folder: Path, stage: Path) -> DataFrame:
    """The entries of one feed's ledger files: LEDGER_COLUMNS as texts, ``stem`` (file name without ending), ``line`` (from 1).

    :param folder: ``<defects>/<feed>``. :param stage: a folder of its own; the frame reads from there.
    :raises UtilityFlowError: UF-1004 for a file that is no ledger.
    """
    import pyarrow as pa
    from pyarrow import parquet

    shape = pa.schema([*((name, pa.string()) for name in (*LEDGER_COLUMNS, "stem")), ("line", pa.int64())])
    stage.mkdir(parents=True)
    with parquet.ParquetWriter(stage / "ledger.parquet", shape) as writer:
        for file in sorted(folder.glob("*.csv")):
            with file.open(newline="", encoding="utf-8") as stream:
                head, *rows = list(csv.reader(stream)) or [[]]
            if tuple(head) != LEDGER_COLUMNS or any(len(row) != len(head) for row in rows):
                raise UtilityFlowError("UF-1004", f"{file} is no ledger of planted defects")
            columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)] or [[]] * len(head)
            table = pa.Table.from_arrays([*columns, [file.stem] * len(rows), range(1, len(rows) + 1)], schema=shape)
            writer.write_table(table)
    return spark.read.parquet(str(stage))


def placed(ledger: DataFrame, contents: DataFrame, raw: DataFrame, key: Sequence[str]) -> DataFrame:
    """The entries with the row that each speaks of: ``_file_sha256`` and ``_row_number``, null where there is none.

    :param ledger: as ``read_ledger`` gives it. :param contents: ``stem``, ``_file_sha256`` of the files to score.
    :param raw: ROW and the raw columns as texts, of these contents. :param key: the raw columns of ``row_key``.
    :returns: the ledger's columns, ROW, ``landed`` (whether the file is one of ``contents``).
    """
    names = [n for n in raw.columns if n not in ROW]
    parts, defective, kind = F.split("row_key", "[|]", -1), F.col("column"), F.col("kind")
    keys = {f"_key_{i}": F.when((defective == n) & ~kind.isin(*WHOLE), F.col("planted_value")).otherwise(parts[i])
            for i, n in enumerate(key)}  # fmt: skip
    entries = ledger.join(F.broadcast(contents), "stem", "left").withColumns(keys)
    entries = entries.withColumn("landed", F.col("_file_sha256").isNotNull())
    texts = raw.select(*ROW, *[F.coalesce(n, F.lit("")).alias(n) for n in names])
    texts = texts.withColumns({f"_key_{i}": F.col(n) for i, n in enumerate(key)})
    held = reduce(lambda value, n: F.when(defective == n, F.col(f"`{n}`")).otherwise(value), names, F.lit(None))
    of_row = ["_file_sha256", *keys]
    cells = _paired(entries.where(~kind.isin(*WHOLE)), texts, [*of_row, "column", "planted_value"], of_row, held)
    whole = _paired(entries.where(kind.isin(*WHOLE) & ~kind.isin(*GONE)), texts, of_row, of_row)
    gone = entries.where(kind.isin(*GONE)).withColumn("_row_number", F.lit(None).cast("bigint"))
    columns = [*ledger.columns, *ROW, "landed"]
    return cells.select(*columns).unionByName(whole.select(*columns)).unionByName(gone.select(*columns))


def _paired(
    entries: DataFrame, texts: DataFrame, alike: Sequence[str], of_row: Sequence[str], held: Column | None = None
) -> DataFrame:
    """The entries with ``_row_number``: of alike ones in their order, if there are as many rows.

    :param of_row: by which rows are looked for; of these ``held`` must be what is planted. Without it the last rows count, and
        there may be more.
    """
    wanted = entries.where("_file_sha256 IS NOT NULL").groupBy(*alike).agg(F.count(F.lit(1)).alias("_entries"))
    rows = texts.join(wanted, [*of_row])
    rows = rows.where("true" if held is None else held == F.col("planted_value"))
    group, down = Window.partitionBy(*alike), held is None
    order = group.orderBy(F.desc("_row_number") if down else "_row_number")
    rows = rows.select(*alike, "_row_number", "_entries", F.count(F.lit(1)).over(group).alias("_rows"),
                       F.row_number().over(order).alias("_place"))  # fmt: skip
    exact = rows.where("_rows >= _entries" if down else "_rows = _entries").select(*alike, "_place", "_row_number")
    entries = entries.withColumn("_place", F.row_number().over(group.orderBy(F.desc("line") if down else "line")))
    return entries.join(exact, [*alike, "_place"], "left")


def placed_in_log(
    ledger: DataFrame, raw: DataFrame, key: Sequence[str], feed: str, zone: str
) -> tuple[DataFrame, set[str]]:
    """The same of a source that is asked: an extract may land a batch of its log together with others, or in parts.

    :param raw: as ``placed`` takes it, of all landed files. :param feed: of LOGGED. :param zone: in which days are cut.
    :returns: as ``placed``; and the batches that have landed, by the names of their ledgers without ending.
    """
    numbered = _numbered(raw, feed, zone)
    names = [n for n in raw.columns if n not in ROW]
    logged = numbered.select(F.col("_stem").alias(ROW[0]), F.col("_number").alias(ROW[1]), *names)
    batches = numbered.select(F.col("_stem").alias("stem"), F.col("_stem").alias(ROW[0])).distinct()
    found = placed(ledger, batches, logged, key)
    own = found.select(*ledger.columns, F.col(ROW[0]).alias("_stem"), F.col(ROW[1]).alias("_number"), "landed")
    found = own.join(numbered.select("_stem", "_number", *ROW), ["_stem", "_number"], "left")
    return found.select(*ledger.columns, *ROW, "landed"), {row["stem"] for row in batches.select("stem").collect()}


def _numbered(raw: DataFrame, feed: str, zone: str) -> DataFrame:
    """With ``_stem``, the name of the ledger that speaks of the row, and ``_number``, its place among the rows of that ledger."""
    if feed == customer_database.FEED:
        batch, place = LOGGED[feed]
        return raw.withColumns({"_stem": F.concat(F.lit(f"{feed}_"), batch), "_number": F.col(place).cast("bigint")})
    # the desk tells the states of a local day in any order; alike ones differ in nothing that a ledger speaks of
    day = F.expr(f"date_format(from_utc_timestamp(try_to_timestamp(updated_at), {sql_text(zone)}), 'yyyy-MM-dd')")
    dated = raw.withColumn("_stem", F.concat(F.lit(f"{feed}_"), day)).where("_stem IS NOT NULL")
    return dated.withColumn("_number", F.row_number().over(Window.partitionBy("_stem").orderBy(*ROW)).cast("bigint"))


def outcomes(
    found: DataFrame, clean: DataFrame, silver: DataFrame, fence: DataFrame, canonical: Collection[str]
) -> DataFrame:
    """What became of the rows that were found: ``outcome`` (one of OUTCOMES) and ``signals`` beside the entry's columns.

    quarantined: in the quarantine; signals are its rules. flagged: in silver, with flags that the clean record would not have;
    they are the signals. repaired: in silver, equal to what the clean record would be. missed: in silver and none of these.
    repeat: in neither, so it equalled a record that stands. Of a record that the ledger says is repeated that is repaired, by
    the signal EQUAL_RECORD, also where it stands alone in silver (the first came later); missed is one that stands beside it.

    :param found: as ``placed`` gives it, with a row each. :param clean: ROW, ``quality_flags`` and the canonical columns that
        the suite makes of the record with the clean value. :param silver: the same of silver, and ``_record_hash``.
    :param fence: ROW and ``rules``.
    """
    again = F.col("kind").isin(*AGAIN)
    ours = silver.select(*ROW, "_record_hash", F.struct("quality_flags", *canonical).alias("_ours"))
    hashes = ours.join(found.where(again).select(*ROW), [*ROW], "left_semi").select("_record_hash").distinct()
    beside = silver.join(F.broadcast(hashes), "_record_hash").groupBy("_record_hash").agg(F.count(F.lit(1)).alias("_beside"))
    ours = ours.join(F.broadcast(beside), "_record_hash", "left").drop("_record_hash")
    theirs = clean.select(*ROW, F.struct("quality_flags", *canonical).alias("_clean"))
    joined = (
        found.join(ours, [*ROW], "left").join(theirs, [*ROW], "left").join(fence.select(*ROW, "rules"), [*ROW], "left")
    )
    equal: Column = reduce(
        lambda a, b: a & b, [F.col(f"_ours.{n}").eqNullSafe(F.col(f"_clean.{n}")) for n in canonical], F.lit(True)
    )
    flags = F.array_except("_ours.quality_flags", "_clean.quality_flags")
    outcome = (
        F.when(F.col("rules").isNotNull(), "quarantined")
        .when(again, F.when(F.coalesce("_beside", F.lit(0)) > 1, "missed").otherwise("repaired"))
        .when(F.col("_ours").isNull(), "repeat")
        .when(F.size(flags) > 0, "flagged")
        .when(equal, "repaired")
        .otherwise("missed")
    )
    equals = F.when(again & F.col("rules").isNull() & (outcome == "repaired"), F.array(F.lit(EQUAL_RECORD)))
    signals = F.coalesce("rules", equals, F.when(again, F.expr(_NO_TEXTS)), flags, F.expr(_NO_TEXTS))
    return joined.withColumns({"outcome": outcome, "signals": signals}).drop("_ours", "_clean", "_beside", "rules")


def false_alarms(found: DataFrame, silver: DataFrame, fence: DataFrame) -> DataFrame:
    """Rows without a planted defect that were signalled: ``outcome`` (quarantined or flagged), ``signals``, ``rows``.

    :param found: as ``placed`` gives it. :param silver: ROW, ``quality_flags``. :param fence: ROW, ``rules``.
    """
    fenced = fence.select(*ROW, F.lit("quarantined").alias("outcome"), F.col("rules").alias("signals"))
    flagged = silver.where("size(quality_flags) > 0")
    flagged = flagged.select(*ROW, F.lit("flagged").alias("outcome"), F.col("quality_flags").alias("signals"))
    rest = fenced.unionByName(flagged).join(found.where("_row_number IS NOT NULL").select(*ROW), [*ROW], "left_anti")
    return rest.groupBy("outcome", "signals").agg(F.count(F.lit(1)).alias("rows"))


# -- figures ---------------------------------------------------------------------------------------------------------


def figures(counted: Iterable[Mapping[str, Any]], alarms: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts, recall and precision by system, kind and column, and in total.

    recall: what was quarantined, flagged or repaired, as a share of this and what was missed. precision: what was quarantined
    or flagged, as a share of this and the false alarms; those of a kind broke a rule or bear a flag that caught one of it, and
    in total all quarantined rows count. Null where there is nothing to divide by.

    :param counted: ``system``, ``kind``, ``column``, ``outcome`` (one of OUTCOMES, ``not landed`` or ``unmatched``),
        ``signals``, ``rows``; not landed: the file is not there yet, or not as it should be.
    :param alarms: ``system``, ``outcome``, ``signals``, ``rows``.
    :returns: ``kinds``, ``total``, ``false_alarms`` (by system and signal).
    """
    counted, alarms = list(counted), list(alarms)
    kinds = []
    for name in sorted({(c["system"], c["kind"], c["column"]) for c in counted}):
        mine = [c for c in counted if (c["system"], c["kind"], c["column"]) == name]
        signals = _by_signal(c for c in mine if c["outcome"] in (*CAUGHT, "repaired"))
        wrong = sum(a["rows"] for a in alarms if a["system"] == name[0] and signals.keys() & set(a["signals"]))
        kinds.append(
            dict(zip(("system", "kind", "column"), name, strict=True)) | _shares(mine, wrong) | {"signals": signals}
        )
    useful = {(k["system"], signal) for k in kinds for signal in k["signals"]}
    wrong = sum(a["rows"] for a in alarms
                if a["outcome"] == "quarantined" or useful & {(a["system"], s) for s in a["signals"]})  # fmt: skip
    listed = [
        {"system": system, "signal": signal, "severity": "error" if outcome == "quarantined" else "warn", "rows": rows}
        for system in sorted({a["system"] for a in alarms})
        for outcome in CAUGHT
        for signal, rows in _by_signal(a for a in alarms if (a["system"], a["outcome"]) == (system, outcome)).items()
    ]
    return {"kinds": kinds, "total": _shares(counted, wrong), "false_alarms": listed}


def _by_signal(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        for signal in row["signals"]:
            found[signal] = found.get(signal, 0) + row["rows"]
    return dict(sorted(found.items()))


def _shares(counted: Sequence[Mapping[str, Any]], wrong: int) -> dict[str, Any]:
    """Rows by outcome, and what recall and precision they make with so many false alarms."""
    by = {o: sum(c["rows"] for c in counted if c["outcome"] == o) for o in (*OUTCOMES, "not landed", "unmatched")}
    caught = sum(by[o] for o in CAUGHT)
    good, scored = caught + by["repaired"], caught + by["repaired"] + by["missed"]
    return {
        "planted": sum(by.values()), **{o.replace(" ", "_"): n for o, n in by.items()}, "false_alarms": wrong,
        "recall": round(good / scored, 4) if scored else None,
        "precision": round(caught / (caught + wrong), 4) if caught else None,
    }  # fmt: skip
