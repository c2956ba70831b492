"""The scorer's joins where a feed asks for the present rows of a database's tables.

The ledger tells of a row each time that it changed, under the row's key and the time of that change. An extract makes several
records of a row (an account is opened, final, closed): an entry speaks of those that show the column, and each of them must hold
what was planted; else the ledger does not fit what landed. A state that no extract saw, since the next one came before it asked,
has not landed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from utilityflow.simulate import agreements
from utilityflow.simulate.defects import GONE, WHOLE
from utilityflow.simulate.score import ROW

SHOWS = "_shows"  # the raw columns of an entry's record that show the defect
LOUD = ("quarantined", "flagged", "missed", "repaired", "repeat")  # of several outcomes the first one tells of the entry
_NOWHERE = "cast(array() AS array<string>)"


@dataclass(frozen=True)
class Shown:
    """What the records are that a feed's query makes of a row.

    ``number``: their raw column that says which of them one is. ``where``: column of the table -> number -> raw columns in which
    the record shows it. A column that is not named is shown by all records under its own name, if they have it.
    """

    number: str
    where: Mapping[str, Mapping[str, tuple[str, ...]]]


# feed -> what it shows of the table (conf/feeds)
STATES: Mapping[str, Shown] = {
    agreements.ACCOUNTS_FEED: Shown("change_no", {
        "status": {}, "final_on": {"2": ("valid_from",)}, "closed_on": {"3": ("closed_on", "valid_from")},
        "opened_on": {"1": ("opened_on", "valid_from"), "2": ("opened_on",), "3": ("opened_on",)},
    }),
    agreements.FEED: Shown("change_no", {
        "status": {}, "billed_on": {"3": ("valid_from",)}, "end_code": {"2": ("end_code",), "3": ("end_code",)},
        "begins_on": {"1": ("begins_on", "valid_from"), "2": ("begins_on",), "3": ("begins_on",)},
        "ends_on": {"2": ("ends_on", "valid_from"), "3": ("ends_on",)},
    }),
}  # fmt: skip


def placed_in_states(
    ledger: DataFrame, raw: DataFrame, key: Sequence[str], feed: str, stems: Collection[str]
) -> tuple[DataFrame, set[str]]:
    """The entries with the records that each speaks of, a row for each record: ROW, null where there is none, and SHOWS.

    :param ledger: as ``score.read_ledger`` gives it. :param raw: ROW and the raw columns as texts, of all landed files.
    :param key: the row's, and the time of its last change. :param feed: of STATES.
    :param stems: the names of the feed's ledgers without ending.
    :returns: the ledger's columns, ROW, ``landed`` and SHOWS; and the months that have landed, by the names of their ledgers.
    """
    (name, moment), state = key, STATES[feed]
    last = (raw.agg(F.max(moment).alias("last")).collect()[0]["last"] or "")[:7]
    texts = _texts(raw, name, moment, state.number)
    own = (F.col("column") == name) & ~F.col("kind").isin(*WHOLE)
    entries = ledger.withColumns({
        "_name": F.when(own, F.col("planted_value")).otherwise(F.split("row_key", "[|]", -1)[0]),
        "_moment": F.split("row_key", "[|]", -1)[1],
        "landed": F.substring("stem", len(feed) + 2, 7) <= F.lit(last),
    })  # fmt: skip
    records = _judged(entries.where(~F.col("kind").isin(*GONE)), texts, state)
    nowhere = {n: F.lit(None).cast(raw.schema[n].dataType) for n in ROW}
    # whose row came in another state only, or whose records do not show the column, has not landed
    missing = records.where("NOT _fits AND _first = 1").withColumn("landed", F.expr("landed AND (_known IS NULL OR _should > 0)"))
    gone = entries.where(F.col("kind").isin(*GONE)).withColumn(SHOWS, F.expr(_NOWHERE))
    columns = [*ledger.columns, *ROW, "landed", SHOWS]
    found = [records.where("_fits AND _tells"), missing.withColumns(nowhere), gone.withColumns(nowhere)]
    landed = {stem for stem in stems if stem.removeprefix(f"{feed}_")[:7] <= last}
    return reduce(DataFrame.unionByName, [part.select(*columns) for part in found]), landed


def _texts(raw: DataFrame, name: str, moment: str, number: str) -> DataFrame:
    """Raw records as texts without nulls, with the row and the time that they are of in ``_name`` and ``_moment``."""
    raw = raw if number in raw.columns else raw.withColumn(number, F.lit(None).cast("string"))
    names = [n for n in raw.columns if n not in ROW]
    texts = raw.select(*ROW, *[F.coalesce(n, F.lit("")).alias(f"_raw_{n}") for n in names])
    return texts.withColumns({"_name": F.col(f"_raw_{name}"), "_moment": F.col(f"_raw_{moment}")})


def _judged(entries: DataFrame, texts: DataFrame, state: Shown) -> DataFrame:
    """Entries with the records of their row.

    SHOWS, ``_tells`` (whether one shows the column), ``_should`` (how many do), ``_fits`` (whether all of these hold what was
    planted), ``_first`` (1 for one of them), ``_known`` (null: nothing of the row has landed, in whatever state).
    """
    names = [n.removeprefix("_raw_") for n in texts.columns if n.startswith("_raw_")]
    known = texts.select("_name", F.lit(True).alias("_known")).distinct()
    records = entries.join(known, "_name", "left").join(texts, ["_name", "_moment"], "left")
    records = records.withColumn(SHOWS, _shown(state, names))
    same = [~F.array_contains(SHOWS, n) | (F.col(f"_raw_{n}") == F.col("planted_value")) for n in names]
    held: Column = reduce(lambda a, b: a & b, same)
    records = records.withColumn("_tells", F.col("_row_number").isNotNull() & (F.size(SHOWS) > 0))
    entry = Window.partitionBy("stem", "line")
    return records.withColumns({
        "_should": F.count(F.when(F.col("_tells"), 1)).over(entry),
        "_does": F.count(F.when(F.col("_tells") & held, 1)).over(entry),
        "_first": F.row_number().over(entry.orderBy(*ROW)),
    }).withColumn("_fits", F.expr("_should > 0 AND _should = _does"))  # fmt: skip


def _shown(state: Shown, names: Sequence[str]) -> Column:
    """Array of the raw columns in which a record shows the column of an entry."""
    own = F.when(F.col("column").isin(*names), F.array("column")).otherwise(F.expr(_NOWHERE))
    shown = F.when(F.col("column").isin(*state.where), F.expr(_NOWHERE)).otherwise(own)
    for column, records in state.where.items():
        for number, raw in records.items():
            hit = (F.col("column") == column) & (F.col(f"_raw_{state.number}") == number)
            shown = F.when(hit, F.array(*map(F.lit, raw))).otherwise(shown)
    return shown


def loudest(told: DataFrame) -> DataFrame:
    """One row for each entry: of the outcomes of its records the first of LOUD, and its signals.

    So an entry that is signalled in one of its records counts as that, and one that one of them hands on unseen as missed.

    :param told: as ``score.outcomes`` gives it. :return: ``stem``, ``line``, ``kind``, ``column``, ``outcome``, ``signals``.
    """
    by = ["stem", "line", "kind", "column"]
    rank = F.array_position(F.array(*map(F.lit, LOUD)), F.col("outcome"))
    ranked = told.select(*by, "outcome", "signals", rank.alias("_rank"))
    ranked = ranked.withColumn("_least", F.min("_rank").over(Window.partitionBy(*by))).where("_rank = _least")
    signals = F.array_sort(F.array_distinct(F.flatten(F.collect_list("signals"))))
    return ranked.groupBy(*by, "outcome").agg(signals.alias("signals"))
