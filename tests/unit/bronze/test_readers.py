"""Readers: exact numbers, corrupt records, and the two ways of reading that must agree."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utilityflow.bronze import scan
from utilityflow.bronze.feeds import Feed, parse_feed
from utilityflow.bronze.inspect import Inspection, find_files, inspect_file
from utilityflow.bronze.readers import BLOCK_CONF, block_reading, read_files
from utilityflow.bronze.records import csv_records
from utilityflow.bronze.scan import Limits

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HEAD = "feed: f\nsystem: billing\nentity: meter_reads\npath: '**/*'\ncolumns: {meter_id: id}\n"


def feed(extra: str = "format: csv") -> Feed:
    return parse_feed(f"{HEAD}{extra}\n", "f.yaml")


def inspected(folder: Path, wanted: Feed) -> list[Inspection]:
    found = [inspect_file(wanted, p, folder) for p in find_files(wanted, folder)]
    assert [f.reason for f in found if f.reason] == []
    return found


def rows(
    spark: SparkSession, wanted: Feed, files: list[Inspection], stage: Path, *, cleared: bool = True
) -> list[dict[str, Any]]:
    frame = read_files(spark, wanted, files, stage)
    assert frame.columns[:5] == ["_feed", "_file_sha256", "_file_name", "_row_number", "_corrupt_record"]
    found = sorted((r.asDict() for r in frame.collect()), key=lambda r: (r["_file_name"], r["_row_number"]))
    for row in found:
        assert (row["_feed"], len(row["_file_sha256"])) == ("f", 64)
        for name in ("_feed", "_file_sha256") + (("_file_name",) if cleared else ()):
            del row[name]
        if row["_corrupt_record"] is None:
            del row["_corrupt_record"]
    return found


def slow(files: list[Inspection]) -> list[Inspection]:
    """The same files, read by the plain Python parser."""
    return [dataclasses.replace(f, kind="staged") for f in files]


SAME = {
    "plain": b"id,b\n1,x\n2,y\n",
    "no line end at the end": b"id,b\n1,x\n2,y",
    "carriage returns": b"id,b\r\n1,x\r\n2,y\r\n",
    "blank lines at the end": b"id,b\n1,x\n\n\n",
    "byte order mark": b"\xef\xbb\xbfid,b\n1,x\n",
    "quotes": b'id,b\n1,"a ""quoted"" word"\n2,"x,y"\n3,""""\n',
    "empty and quoted empty": b'id,b\n1,\n2,""\n,x\n"",\n',
    "blanks": b'id,b\n 1 , x\n2\t,"  y  "\n3,   \n',
    "unicode": "id,b\n1,Zażółć 😀\n2,\u2028x\u00a0\n".encode(),
    "too few and too many fields": b"id,b\n1\n2,a,b\n3,ok\n,,,\n",
    "hash and backslash": b"id,b\n#1,x\\\n2,\\\\n\n",
    "duplicate names": b"id,ID,id\n1,2,3\n",
    "one column": b'id\n1\n""\n3\n',
    "control characters": b"id,b\n1,\x01\x0b\x0c\x1f\x85x\n".replace(b"\x85", b"\xc2\x85"),
    "marks of other delimiters": b"id,b\n1;x,y|z\n",
    "leading zeros and long numbers": b"id,b\n007,1e5\n2,12345678901234567890.123456789\n",
}


@pytest.mark.engine
def test_the_two_ways_of_reading_agree(spark: SparkSession, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    for name, content in SAME.items():
        (landing / f"{name}.csv").write_bytes(content)
    files = inspected(landing, feed())
    assert {f.kind for f in files} == {"lines"}
    fast = rows(spark, feed(), files, tmp_path / "s", cleared=False)
    assert fast == rows(spark, feed(), slow(files), tmp_path / "s", cleared=False)
    counts = {f.file_name: f.records for f in files}
    assert counts == {n: sum(r["_file_name"] == n for r in fast) for n in counts}
    corrupt = [r for r in fast if r["_file_name"].startswith("too few")]
    assert [r.get("_corrupt_record") for r in corrupt] == ["1", "2,a,b", None, ",,,"]
    assert [r["id"] for r in corrupt] == [None, None, "3", None]
    assert [(r["id"], r["b"]) for r in fast if r["_file_name"].startswith("empty")] == [
        ("1", ""),
        ("2", ""),
        ("", "x"),
        ("", ""),
    ]


@pytest.mark.engine
@pytest.mark.parametrize("options", ["{}", "{delimiter: ';', quote: \"'\"}", "{quote: ''}", "{delimiter: '|', escape: '\\'}"])
def test_the_two_ways_of_reading_agree_on_whatever_lines(spark: SparkSession, tmp_path: Path, options: str):
    import random

    wanted = feed(f"format: csv\noptions: {options}")
    sign = wanted.options.delimiter
    noise, landing = random.Random(11), tmp_path / "landing"
    landing.mkdir()
    path, lines = landing / "a.csv", [f"id{sign}b".encode()]
    while len(lines) < 800:
        line = "".join(noise.choices(f"aé1{sign}{sign}\"\"' \t\\;,|#\x0b\u2028\ufeff", k=noise.randint(1, 9))).encode()
        path.write_bytes(lines[0] + b"\n" + line + b"\n")
        if inspect_file(wanted, path, landing).kind == "lines":  # others are never given to the engine
            lines.append(line)
    path.write_bytes(b"\n".join(lines) + b"\n")
    files = inspected(landing, wanted)
    assert (files[0].kind, files[0].records) == ("lines", 799)
    assert rows(spark, wanted, files, tmp_path / "s") == rows(spark, wanted, slow(files), tmp_path / "s")


@pytest.mark.engine
def test_fixed_width_the_two_ways_agree(spark: SparkSession, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    (landing / "a.txt").write_bytes("\ufeff001  ä x \n002 bb yy   \n003 too long y\n04\n".encode())
    wanted = feed("format: fixed_width\noptions: {fields: {id: [1, 3], b: [4, 4], c: [8, 3]}}")
    files = inspected(landing, wanted)
    fast = rows(spark, wanted, files, tmp_path / "s")
    assert fast == rows(spark, wanted, slow(files), tmp_path / "s")
    assert [r.get("_corrupt_record") for r in fast] == ["001  ä x ", None, "003 too long y", "04"]
    assert fast[1] == {"_row_number": 2, "id": "002", "b": "bb", "c": "yy"}
    padded = feed("format: fixed_width\noptions: {short_lines: pad, fields: {id: [1, 3], b: [4, 4], c: [8, 3]}}")
    assert rows(spark, padded, files, tmp_path / "s")[0] == {"_row_number": 1, "id": "001", "b": "ä", "c": "x"}
    assert rows(spark, padded, files, tmp_path / "s") == rows(spark, padded, slow(files), tmp_path / "s")


CONTROLLED = {  # body -> its records
    b"1,x\n2,y\n": 2,
    b"1,x\r\n2,y\r\n": 2,
    b'1,"a ""quoted"" word"\n2,"TRL,x"\n"","HDR,y"\n': 3,
    b"1\n2,a,b\n3,ok\n,,,\n": 4,
    "é,x\n2,\u2028 HDR,\n TRL,9\n".encode(): 3,
    b"#1,x\\\n2,\\\n": 2,
    b'1,"two\nlines"\n2,"TRL,9\nHDR,1"\n': 2,
    b'1,5" pipe\n2,y\n': 2,
    b"1,x\n\n2,y\n": 2,
    "\ufeff1,x\n2,y\n".encode(): 2,
}
STAGED = 4  # the last of them are not safe for the fast reader


@pytest.mark.engine
@pytest.mark.parametrize("names", ["", "options: {names: [id, b]}\n"])
def test_the_two_ways_of_reading_agree_between_header_and_trailer(spark: SparkSession, tmp_path: Path, names: str):
    landing = tmp_path / "landing"
    landing.mkdir()
    wanted = feed(
        f"format: csv\n{names}control: {{header_prefix: 'HDR,', header_rows: _c1, trailer_prefix: 'TRL,', rows: _c1}}"
    )
    for n, (body, count) in enumerate(CONTROLLED.items()):
        end = b"\r\n" if b"\r" in body else b"\n"
        first = [b"HDR,%d" % count, *([] if names else [b"id,b"]), body + b"TRL,%d" % count]
        (landing / f"{n}.csv").write_bytes((b"\xef\xbb\xbf" if n == 1 else b"") + end.join(first) + end * (n % 3))
    (landing / "a.csv.gz").write_bytes(gzip.compress((landing / "0.csv").read_bytes()))
    files = inspected(landing, wanted)
    assert [f.kind for f in files] == [*["lines"] * (len(CONTROLLED) - STAGED), *["staged"] * STAGED, "lines"]
    fast = rows(spark, wanted, files, tmp_path / "s", cleared=False)
    assert fast == rows(spark, wanted, slow(files), tmp_path / "s", cleared=False)
    assert [len([r for r in fast if r["_file_name"] == f.file_name]) for f in files] == [*CONTROLLED.values(), 2]
    assert [r["_row_number"] for r in fast if r["_file_name"] == "3.csv"] == [1, 2, 3, 4]
    assert [r.get("_corrupt_record") for r in fast if r["_file_name"] == "3.csv"] == ["1", "2,a,b", None, ",,,"]


@pytest.mark.engine
def test_numbers_between_header_and_trailer_are_exact_over_many_blocks(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    landing = tmp_path / "landing"
    landing.mkdir()
    monkeypatch.setattr(scan, "BLOCK", 4096)
    monkeypatch.setattr(scan, "CHUNK", 4096)
    monkeypatch.setattr("utilityflow.bronze.readers.BLOCK_CONF", dict.fromkeys(BLOCK_CONF, "4096"))
    body = "".join(f"{i:06d}{'x' * (i * 7919 % 97):>97}\n" for i in range(1, 2000))
    (landing / "a.txt").write_text(f"HDR 1999 {'h' * 9000}\n{body}TRL {'0' * 5000}1999\n\n")
    wanted = feed("format: fixed_width\noptions: {fields: {id: [1, 6], b: [7, 97]}}\n"
                  "control: {header_prefix: HDR, header_rows: _c1, trailer_prefix: TRL, rows: _c1}")  # fmt: skip
    files = inspected(landing, wanted)
    assert files[0].kind == "lines" and len(files[0].blocks) > 10
    frame = read_files(spark, wanted, files, tmp_path / "s")
    assert frame.where("cast(id as bigint) <> _row_number or _corrupt_record is not null").count() == 0
    assert frame.count() == files[0].records == 1999


@pytest.mark.engine
def test_numbers_are_exact_over_many_blocks_and_files(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    landing = tmp_path / "land ing"
    landing.mkdir()
    small = 4096
    monkeypatch.setattr(scan, "BLOCK", small)
    monkeypatch.setattr(scan, "CHUNK", small)
    monkeypatch.setattr("utilityflow.bronze.readers.BLOCK_CONF", dict.fromkeys(BLOCK_CONF, str(small)))
    for number in range(3):
        body = "".join(f"{i},{'x' * (i * 7919 % 97)}\r\n" for i in range(1, 2000))
        (landing / f"{number}.csv").write_text("id,b\r\n" + body, newline="")
    (landing / "long.csv").write_text(
        "id,b\n" + "".join(f"{i},{'y' * (9000 if i % 5 == 0 else 1)}\n" for i in range(1, 50))
    )
    (landing / "z.csv.gz").write_bytes(gzip.compress(b"id,b\n" + b"".join(b"%d,z\n" % i for i in range(1, 5000))))
    members = [gzip.compress(b"id,b\n1,z\n2,"), gzip.compress(b"z\n3,z\n"), bytes(1000)]  # several members, padding
    (landing / "zz.csv.gz").write_bytes(b"".join(members))
    files = inspected(landing, feed())
    assert len(files[0].blocks) > 10
    frame = read_files(spark, feed(), files, tmp_path / "s")
    assert frame.where("cast(id as bigint) <> _row_number or _corrupt_record is not null").count() == 0
    counts = {r[0]: r[1] for r in frame.groupBy("_file_name").count().collect()}
    assert counts == {f.file_name: f.records for f in files}


@pytest.mark.engine
def test_blocks_that_are_cut_otherwise_fail_instead_of_numbering_wrongly(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    landing = tmp_path / "landing"
    landing.mkdir()
    for name in "ab":
        (landing / f"{name}.csv").write_text("id\n" + "".join(f"{i}\n" for i in range(3000)))
    monkeypatch.setattr(scan, "BLOCK", 4096)
    monkeypatch.setattr(scan, "CHUNK", 4096)
    files = inspected(landing, feed())
    with block_reading(spark):  # blocks of another size
        frame = read_files(spark, feed(), files, tmp_path / "s")
        with pytest.raises(Exception, match="its blocks were not those that were inspected"):
            frame.collect()
    monkeypatch.undo()
    files = inspected(landing, feed())
    frame = read_files(spark, feed(), files, tmp_path / "s")
    with block_reading(spark):  # both files in one task
        spark.conf.set("spark.sql.files.openCostInBytes", "1")
        spark.conf.set("spark.sql.files.minPartitionNum", "1")
        with pytest.raises(Exception, match="its blocks were not those that were inspected"):
            frame.collect()
        spark.conf.unset("spark.sql.files.minPartitionNum")


@pytest.mark.engine
def test_a_file_that_grew_after_its_inspection_fails(spark: SparkSession, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    (landing / "a.csv").write_text("id\n1\n")
    files = inspected(landing, feed())
    (landing / "a.csv").write_text("id\n1\n2\n")
    with pytest.raises(Exception, match="a file changed while it was read"):
        read_files(spark, feed(), files, tmp_path / "s").collect()
    (landing / "a.csv").unlink()
    with pytest.raises(OSError, match="a.csv"):
        read_files(spark, feed(), slow(files), tmp_path / "s")


@pytest.mark.engine
def test_files_of_other_columns_and_order_are_united_by_name(spark: SparkSession, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    (landing / "a.csv").write_text("id,b\n1,x\n")
    (landing / "b.csv").write_text("b,id\ny,2\n")
    (landing / "c.csv").write_text("id,new\n3,z\n")
    found = rows(spark, feed(), inspected(landing, feed()), tmp_path / "s")
    one = {"_row_number": 1}
    assert found == [one | {"id": "1", "b": "x", "new": None}, one | {"id": "2", "b": "y", "new": None},
                     one | {"id": "3", "b": None, "new": "z"}]  # fmt: skip


@pytest.mark.engine
def test_embedded_newlines_encodings_and_mixed_line_ends(spark: SparkSession, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    (landing / "a.csv").write_bytes(b'id,b\r\n1,"two\r\nlines"\r\n\r\n2,"a"b\n3,x,y\r4,"z"\n')
    found = rows(spark, feed(), inspected(landing, feed()), tmp_path / "s")
    assert [(r["_row_number"], r["id"], r["b"], r.get("_corrupt_record")) for r in found] == [
        (1, "1", "two\r\nlines", None), (2, None, None, '2,"a"b'), (3, None, None, "3,x,y"), (4, "4", "z", None),
    ]  # fmt: skip
    latin = feed("format: csv\noptions: {encoding: iso-8859-1, delimiter: ';', quote: \"'\", escape: '\\'}")
    (landing / "a.csv").write_bytes("id;b\n1;'Grö\\'ße; x'\n".encode("latin-1"))
    assert rows(spark, latin, inspected(landing, latin), tmp_path / "s")[0]["b"] == "Grö'ße; x"
    odd = feed('format: csv\noptions: {quote: "", delimiter: "\\\\"}')
    (landing / "a.csv").write_bytes(b"id\\b\n1\\x\n")
    assert rows(spark, odd, inspected(landing, odd), tmp_path / "s")[0]["b"] == "x"
    plain = feed('format: csv\noptions: {quote: "", delimiter: "\\t", names: [id, b]}')
    (landing / "a.csv").write_bytes(b'1\t"x\n2\ty"\n')
    assert [r["b"] for r in rows(spark, plain, inspected(landing, plain), tmp_path / "s")] == ['"x', 'y"']


@pytest.mark.engine
def test_json_lines_keep_numbers_and_nested_values(spark: SparkSession, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    wanted = feed("format: jsonl")
    lines = [
        r'{"id": "\ud83d\ude00"}', r'{"id": "\ud83d"}', r'{"id": {"\uDC00": 1}}',
        '{"id": 1.10, "n": 12345678901234567890.12345, "t": "a\\nb", "ok": true}', "not json", "[1]", "",
        '{"id": 1e5, "nested": {"x": [1.10, null, "é"]}, "New Key": null}', '{"id": NaN}',
    ]  # fmt: skip
    (landing / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    found = rows(spark, wanted, inspected(landing, wanted), tmp_path / "s")
    assert [r["_row_number"] for r in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found[0]["id"] == "😀"
    halves = [r.get("_corrupt_record") for r in found[1:3]]  # half a character is no text
    assert halves == [r'{"id": "\ud83d"}', r'{"id": {"\uDC00": 1}}']
    found = found[3:]
    assert [r.get("_corrupt_record") for r in found] == [None, "not json", "[1]", None, '{"id": NaN}']
    first, last = found[0], found[3]
    assert (first["id"], first["n"], first["t"], first["ok"]) == ("1.10", "12345678901234567890.12345", "a\nb", "true")
    assert (last["id"], last["nested"], last["new_key"]) == ("1e5", '{"x":[1.10,null,"é"]}', None)


@pytest.mark.engine
def test_json_documents(spark: SparkSession, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    wanted = feed("format: json")
    (landing / "a.json").write_text('  [ {"id": 1.0}, 5, {"id": "x", "long": "' + "y" * 200_000 + '"} ]\n')
    (landing / "b.json").write_text('{"id": 7}')
    found = rows(spark, wanted, inspected(landing, wanted), tmp_path / "s")
    assert [(r["_row_number"], r["id"], r.get("_corrupt_record")) for r in found] == [
        (1, "1.0", None), (2, None, "5"), (3, "x", None), (1, "7", None),
    ]  # fmt: skip
    assert found[2]["long"] == "y" * 200_000


@pytest.mark.engine
def test_parquet_of_differing_schemas(spark: SparkSession, tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    instant = dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)
    table = pa.table({
        "id": pa.array([1, None], pa.int64()), "__null_dask_index__": [0, 1], "Two words.": ["a", None],
        "at": pa.array([instant] * 2, pa.timestamp("us", tz="UTC")),
        "local": pa.array([instant.replace(tzinfo=None)] * 2, pa.timestamp("us")),
        "money": pa.array([decimal.Decimal("1.10")] * 2, pa.decimal128(10, 2)), "day": [dt.date(2020, 1, 2)] * 2,
    })  # fmt: skip
    pq.write_table(table, landing / "a.parquet")
    pq.write_table(pa.table({"id": ["x"], "new": [True]}), landing / "b.parquet")
    nanos = pa.table({"id": ["n"], "at": pa.array([instant], pa.timestamp("ns", tz="UTC"))})
    pq.write_table(nanos, landing / "c.parquet")
    wanted = feed("format: parquet")
    files = inspected(landing, wanted)
    assert [f.kind for f in files] == ["parquet", "parquet", "staged"]
    found = rows(spark, wanted, files, tmp_path / "s")
    expected = {
        "_row_number": 1, "id": "1", "_null_dask_index_": "0", "two_words_": "a", "at": "2020-01-02 03:04:05Z",
        "local": "2020-01-02 03:04:05", "money": "1.10", "day": "2020-01-02", "new": None,
    }  # fmt: skip
    assert found[0] == expected
    assert (found[1]["_row_number"], found[1]["id"], found[1]["two_words_"]) == (2, None, None)
    assert (found[2]["id"], found[2]["new"]) == ("x", "true")
    assert found[3]["at"].startswith("2020-01-02 03:04:05")
    assert found[3]["at"].endswith("Z")
    same = rows(spark, wanted, slow(files[:1]), tmp_path / "s")[0]
    assert same == {k: expected[k] for k in same}


def test_workbooks_and_xml(spark: SparkSession, tmp_path: Path):
    from xlsx_files import written

    (tmp_path / "a.xlsx").write_bytes(written([["id", "b"], [1, 0.1], [2, "=1+1"], ["a note"]]))
    (tmp_path / "b.xml").write_text("<x><r id='1'><b>2</b></r><r><c>3</c></r><r id='4'>5<b/></r></x>")
    books = feed("format: xlsx\noptions: {footnotes: single_cell}")
    sheet = [inspect_file(books, tmp_path / "a.xlsx", tmp_path)]
    assert sheet[0].notes == ("a.xlsx: sheet 'S': 1 note(s) below the table left out, row 4, by 'footnotes: single_cell'",)
    assert rows(spark, books, sheet, tmp_path / "s1") == [
        {"_row_number": 1, "id": "1", "b": "0.1"},
        {"_row_number": 2, "id": None, "b": None,
         "_corrupt_record": "sheet 'S', cell B3: a formula: [\"2\", \"=1+1\"]"},
    ]  # fmt: skip
    trail = feed("format: xml\noptions: {record: r}")
    found = rows(spark, trail, [inspect_file(trail, tmp_path / "b.xml", tmp_path)], tmp_path / "s2")
    empty = {"id": None, "b": None, "c": None}
    assert found == [
        {**empty, "_row_number": 1, "id": "1", "b": "2"},
        {**empty, "_row_number": 2, "c": "3"},
        {**empty, "_row_number": 3, "_corrupt_record": '<r id="4">5<b /></r>'},
    ]


def test_the_inspection_can_stage_at_once(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text('id,b\n1,"x\ny"\n')
    found = inspect_file(feed(), path, tmp_path, stage=tmp_path / "s")
    (part,) = found.parts
    assert pq.read_table(part.path).to_pylist() == [{
        "_feed": "f", "_file_sha256": found.sha256, "_file_name": "a.csv", "_row_number": 1, "_corrupt_record": None,
        "id": "1", "b": "x\ny",
    }]  # fmt: skip


texts = st.text(alphabet=st.sampled_from('ab,"\n\r; \t\\é'), max_size=6)


@settings(max_examples=200)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_whatever_a_csv_writer_writes_is_read_back(written: list[tuple[str, str]]):
    import csv
    import io

    stream = io.StringIO(newline="")
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("id", "b"), *written])
    stream.seek(0)
    found = list(csv_records(feed(), stream, "x", Limits()))
    assert [tuple(values or ()) for _, values, _ in found] == written
