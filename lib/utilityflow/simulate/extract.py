"""What one simulated system hands over: a query for clean text columns, and how it becomes landed files and a ledger.

Each partition of the query is one whole file, so nothing is shuffled; its first row, marked ``head``, becomes the
header.
The query is one SQL text of nested layers, analysed once for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import DataFrame

from utilityflow.simulate.defects import AGAIN, CELL, GONE, LEDGER_COLUMNS, Planter
from utilityflow.simulate.draws import at, int_array, text, text_array
from utilityflow.simulate.model import Layer, Utility

Form = Literal["csv", "jsonl", "parquet"]
CHUNK = 250_000  # premises a file: larger utilities get several files a month
JSON_NUMBER = "^-?(0|[1-9][0-9]*)([.][0-9]+)?$"


@dataclass(frozen=True)
class Trailer:
    """The last record of a CSV file: ``prefix``, number of records, sum of the raw column ``sum`` (what is no number counts 0).

    The source adds up what it exports, so planted defects are within the totals.
    """

    prefix: str
    sum: str


@dataclass(frozen=True)
class Extract:
    """One feed of one system, for some months.

    ``query``: gives ``head`` (boolean), ``file_no`` (its partition), ``row_key`` (string), ``copy`` (0 the first, 1
    a repeat), ``defect`` (spec number) and the clean raw columns as strings.
    ``files``: names without ending, one per partition. ``quoted``: raw columns whose text may hold a comma.
    ``expected_rows``, ``row_bytes``: for the disk estimate and the time left.
    ``whole_stage``: whether Spark's whole-stage code generation suits the query (methods below 8,000 bytes).
    ``form``: in which its files land; None where the caller chooses (csv or parquet). ``numbers``: raw columns that JSON lines
    show without quotes, where the text is one; ``nested``: those whose text is a JSON object. ``headers``: the record before the
    column names of each file, ``trailer``: control totals at its end (csv). ``beside``: name -> SQL of columns of the query that
    stand clean before the raw ones (parquet).
    """

    system: str
    feed: str
    query: str
    files: tuple[str, ...]
    planter: Planter
    expected_rows: int
    row_bytes: int
    quoted: frozenset[str] = frozenset()
    whole_stage: bool = True
    form: Form | None = None
    numbers: frozenset[str] = frozenset()
    nested: frozenset[str] = frozenset()
    headers: tuple[str, ...] = ()
    trailer: Trailer | None = None
    beside: Mapping[str, str] = field(default_factory=dict)

    def lines(self, rows: DataFrame, form: Form) -> DataFrame:
        """What the files hold, in one column ``value``; of Parquet files the raw columns."""
        return {"csv": self.csv_lines, "jsonl": self.json_lines, "parquet": self.table}[form](rows)

    def landed(self, rows: DataFrame) -> DataFrame:
        """The rows of the query as the files hold them: without those that are lost, and those that are repeated twice."""
        planter = self.planter
        gone, again = planter.numbers(*GONE), planter.numbers(*AGAIN)
        if gone or again:  # not a filter, which the optimizer would push down through every layer of the query
            times = [f"WHEN defect IN ({', '.join(map(str, n))}) THEN {a}" for n, a in
                     ((gone, "cast(array() as array<int>)"), (again, "array(0, 1)")) if n]  # fmt: skip
            rows = rows.selectExpr("*", f"explode(CASE WHEN head THEN array(0) {' '.join(times)} ELSE array(0) END) AS time_told")
        for number, quirk in planter.own().items():
            if planter.specs[number - 1].kind in GONE:
                rows = rows.where(f"head OR NOT ({quirk.when})")
        return rows

    def csv_lines(self, rows: DataFrame) -> DataFrame:
        """One column ``value``: the lines of the files, header first, from the rows of the query."""
        columns = self.planter.columns
        fields = [quote(self.planter.dirty(c)) if c in self.quoted else self.planter.dirty(c) for c in columns]
        return self.landed(rows).selectExpr(_line(columns, fields, self.headers))

    def json_lines(self, rows: DataFrame) -> DataFrame:
        """One column ``value``: a JSON object a line; an empty text is null, a number stands as it is written."""
        fields = []
        for c in self.planter.columns:
            value = self.planter.dirty(c)
            told = f"concat('\"', {escaped(value)}, '\"')"
            if c in self.numbers:
                told = f"if({value} RLIKE {text(JSON_NUMBER)}, {value}, {told})"
            elif c in self.nested:
                told = f"if({value} LIKE '{{%}}', {value}, {told})"
            fields.append(f"concat('\"{c}\": ', if({value} = '', 'null', {told}))")
        record = ", ', ', ".join(fields)
        return self.landed(rows).where("NOT head").selectExpr(f"concat('{{', {record}, '}}') AS value")

    def table(self, rows: DataFrame) -> DataFrame:
        """The raw columns as strings, without header rows: for Parquet files."""
        beside = [f"{sql} AS {name}" for name, sql in self.beside.items()]
        raw = [f"{self.planter.dirty(c)} AS {c}" for c in self.planter.columns]
        return self.landed(rows).where("NOT head").selectExpr(*beside, *raw)

    def ledger_lines(self, rows: DataFrame, ending: str) -> DataFrame:
        """One column ``value``: CSV lines of the ledger, header first, one file per landed file."""
        names = text_array([f"{name}.{ending}" for name in self.files])
        again = self.planter.numbers(*AGAIN)
        copy = f"if(defect IN ({', '.join(map(str, again))}), '1', cast(copy as string))" if again else "cast(copy as string)"
        fixed = [text(self.system), text(self.feed), at(names, "file_no"), "row_key", "copy"]
        known = [f"({q.where or q.when})" for q in self.planter.own().values()]
        drawn = rows.where(" OR ".join(dict.fromkeys(["head", "defect > 0", *known])))
        drawn = drawn.selectExpr("head", "file_no", "row_key", f"{copy} AS copy", f"{self.planter.ledger()} AS cells")
        # neither a filter of rows nor explode(cells): of a plain column the optimizer infers a filter, that it is not empty, and
        # pushes that long condition down through every layer of the query, which then takes minutes to plan
        told = "explode(if(head, slice(cells, 1, 1), cells)) AS cell"
        fields = fixed + [quote(f"cell.{c}") for c in CELL]
        return drawn.selectExpr("*", told).selectExpr(_line(LEDGER_COLUMNS, fields))


def layered(source: str, layers: Sequence[Layer | str]) -> str:
    """Query that adds the columns of each layer to a source query; a text among the layers is a filter."""
    query = source
    for layer in layers:
        if isinstance(layer, str):
            query = f"SELECT * FROM ({query}) WHERE {layer}"
        else:
            query = f"SELECT *, {', '.join(f'{e} AS {c}' for c, e in layer.items())} FROM ({query})"
    return query


def kept(condition: str, name: str) -> Layer:
    """Layer that keeps the rows that meet a condition; its column, of a name of its own, says nothing.

    A filter does the same, but the optimizer pushes it down through all layers below it, whose expressions are then written
    out, and computed, once more for each time that the condition leads to them.
    """
    return {name: f"explode(if({condition}, array(1), cast(array() as array<int>)))"}


def premise_files(utility: Utility, months: range, month: str = "k") -> tuple[list[tuple[int, int]], str]:
    """A file for each month (indexes from 0) and chunk of CHUNK premises.

    :return: month and first premise of each file, in their order; and the query of ``head``, ``file_no``, the month (in a column
        of the name ``month``) and ``p``, a premise that is there in that month.
    """
    chunks = [(m, first) for m in months for first in range(0, utility.premises(m), CHUNK)]
    of_file = {
        month: f"cast({at(int_array([m for m, _ in chunks]), 'file_no')} as bigint)",
        "p": f"n + {at(int_array([first for _, first in chunks]), 'file_no')}",
    }
    exists = f"head OR (n < {CHUNK} AND p < {utility.premises(0)}L + {utility.growth}L * {month})"
    rows = min(CHUNK, utility.premises(months[-1]))
    return chunks, layered(one_file_each(len(chunks), rows, "n"), [of_file, exists])


def database_extract(
    utility: Utility, months: range, system: str, feed: str, planter: Planter | tuple[str, ...], layers: Sequence[Layer | str], *,
    shares: tuple[float, float], row_bytes: int, beside: Mapping[str, str] | None = None,
) -> Extract:  # fmt: skip
    """What a database takes of some months (indexes from 0), as Parquet, by ``premise_files``.

    :param planter: or the columns, where no defects are planted. :param layers: over the query of ``premise_files``.
    :param shares: rows for each premise in the first month and in others. :param beside: as ``Extract`` has it.
    """
    chunks, premises = premise_files(utility, months)
    return Extract(
        system=system,
        feed=feed,
        query=layered(premises, layers),
        files=tuple(f"{feed}_{utility.almanac.month_start(m):%Y-%m}_{first // CHUNK + 1:02d}" for m, first in chunks),
        planter=planter if isinstance(planter, Planter) else Planter(utility.seed, feed, (), {}, planter),
        expected_rows=round(sum(utility.premises(m) * shares[m > 0] for m in months)),
        row_bytes=row_bytes,
        whole_stage=False,
        form="parquet",
        beside=beside or {},
    )


def one_file_each(files: int, rows: int, name: str) -> str:
    """Query of ``file_no`` and, within the file, ``head`` or the number ``name`` from 0 (0 too beside ``head``).

    One partition for each file, in the order of the files: what makes them whole files without a shuffle.
    """
    return f"""SELECT cast(id div {rows + 1}L as int) AS file_no, id % {rows + 1}L = 0 AS head,
        greatest(id % {rows + 1}L - 1, 0L) AS {name} FROM range(0, {files * (rows + 1)}, 1, {files})"""


def quote(column: str) -> str:
    """SQL of a CSV field: in quotes where it holds a comma, a quote or blanks at an end."""
    inner = f"replace({column}, '\"', '\"\"')"
    needs = f"instr({column}, ',') > 0 OR instr({column}, '\"') > 0 OR {column} LIKE ' %' OR {column} LIKE '% '"
    return f"if({needs}, concat('\"', {inner}, '\"'), {column})"


def escaped(value: str) -> str:
    """SQL of a text as it stands within the quotes of a JSON text; simulated texts hold no control characters."""
    return f"""replace(replace({value}, '\\\\', '\\\\\\\\'), '"', '\\\\"')"""


def _line(names: tuple[str, ...], fields: list[str], headers: tuple[str, ...] = ()) -> str:
    row = ", ',', ".join(fields)
    head = text(",".join(names))
    if headers:  # two lines of one value
        head = f"concat({at(text_array(headers), 'file_no')}, '\\n', {head})"
    return f"if(head, {head}, concat({row})) AS value"
