"""Bad input: whatever is wrong with a file is a reason that names file, row and rule; nothing raises."""

from __future__ import annotations

import codecs
import gzip
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utilityflow.bronze import inspect as module
from utilityflow.bronze import scan as scan_module
from utilityflow.bronze.feeds import Feed, parse_feed
from utilityflow.bronze.inspect import Inspection, Limits, find_files, inspect_file, unchanged
from utilityflow.bronze.records import jsonl_records
from utilityflow.bronze.scan import LineScan, line_blocks, quoted_fields
from utilityflow.errors import UtilityFlowError

HEAD = "feed: f\nsystem: billing\nentity: meter_reads\npath: '**/*'\ncolumns: {meter_id: id}\n"


def feed(extra: str = "format: csv") -> Feed:
    return parse_feed(f"{HEAD}{extra}\n", "f.yaml")


def look(folder: Path, content: bytes, extra: str = "format: csv", name: str = "a.csv", **more: object) -> Inspection:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return inspect_file(feed(extra), path, folder, **more)  # type: ignore[arg-type]


def assert_refused(found: Inspection, code: str, *words: str) -> str:
    assert found.reason is not None
    assert found.reason.code == code, found.reason
    text = str(found.reason)
    assert found.file_name in text
    for word in words:
        assert word in text, text
    return text


def test_a_sound_file(tmp_path: Path):
    found = look(tmp_path, b'id,b\r\n1,"x, ""y"""\r\n2,\xc3\xa4\r\n\r\n')
    assert (found.reason, found.stable, found.kind, found.records, found.crlf) == (None, True, "lines", 2, True)
    assert (found.names, len(found.sha256), found.size) == (("id", "b"), 64, 28)
    assert unchanged(found)


def test_empty_file(tmp_path: Path):
    found = look(tmp_path, b"")
    assert_refused(found, "UF-2001", "empty")
    assert found.sha256.startswith("e3b0c442")
    assert_refused(look(tmp_path, gzip.compress(b""), name="a.csv.gz"), "UF-2001", "empty")
    assert_refused(look(tmp_path, b"\n\n\n"), "UF-2001")
    assert_refused(look(tmp_path, b"[]", "format: json"), "UF-2001")
    assert_refused(look(tmp_path, b"\n", "format: jsonl"), "UF-2001")


@pytest.mark.parametrize("content", [b"id,b", b"id,b\n", b"\xef\xbb\xbfid,b\r\n\r\n", b'"id","b\n"\n'])
def test_header_only(tmp_path: Path, content: bytes):
    assert_refused(look(tmp_path, content), "UF-2001", "a header and no records")


def test_missing_column_names_the_nearest(tmp_path: Path):
    assert_refused(look(tmp_path, b"idd,b\n1,2\n"), "UF-2002", "no column 'id', which 'meter_id' reads", "did you mean 'idd'?")
    assert_refused(look(tmp_path, b'{"idd": 1}\n', "format: jsonl"), "UF-2002", "'idd'")


def test_truncated_gzip(tmp_path: Path):
    whole = gzip.compress(b"id,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919) for i in range(50_000)))
    assert_refused(look(tmp_path, whole[:-20], name="a.csv.gz"), "UF-2003", "cut off")
    assert_refused(look(tmp_path, whole[:-3], name="a.csv.gz"), "UF-2003", "cut off")
    assert_refused(look(tmp_path, whole[:-8] + b"12345678", name="a.csv.gz"), "UF-2003")
    assert_refused(look(tmp_path, whole + b"garbage", name="a.csv.gz"), "UF-2003")
    assert_refused(look(tmp_path, b"id,b\n1,2\n", name="a.csv.gz"), "UF-2003", "not a sound gzip file")
    found = look(tmp_path, whole + gzip.compress(b"x,y\n") + bytes(100), name="a.csv.gz")
    assert (found.reason, found.records) == (None, 50_001)


def test_gzip_bomb_is_stopped(tmp_path: Path):
    bomb = gzip.compress(b"id\n" + b"0\n" * 10_000_000)
    assert_refused(look(tmp_path, bomb, name="a.csv.gz", limits=Limits(max_decompressed_bytes=1_000_000)), "UF-2003", "1000000")


def test_wrong_encoding(tmp_path: Path):
    latin = "id,b\n1,x\n2,Größe\n".encode("latin-1")
    assert_refused(look(tmp_path, latin), "UF-2004", "line 3", "options.encoding")
    assert_refused(look(tmp_path, latin, "format: csv\noptions: {encoding: ascii}"), "UF-2004", "line 3", "ascii")
    assert_refused(look(tmp_path, b"id,b\n1,\xe2\x82"), "UF-2004")
    assert_refused(look(tmp_path, "id,b\n1,2\n".encode("utf-16")), "UF-2004")
    assert_refused(look(tmp_path, "id,b\n1,2\n".encode("utf-16-le")), "UF-2004", "NUL byte")
    utf16, half = "format: csv\noptions: {encoding: utf-16}", "id,b\n1,2\n".encode("utf-16") + b"\xff"
    assert_refused(look(tmp_path, half, utf16), "UF-2004", "is not utf-16")
    unmarked = '{"id": 1}\n'.encode("utf-16-be")
    assert_refused(look(tmp_path, unmarked, utf16.replace("csv", "jsonl")), "UF-2004", "line 1 is not utf-16")
    for encoding in ("iso-8859-1", "utf-16", "utf-8-sig"):
        found = look(
            tmp_path, "id,b\n1,x\n2,Größe\n".encode(encoding), f"format: csv\noptions: {{encoding: {encoding}}}"
        )
        assert (found.reason, found.records) == (None, 2)


def test_unclosed_quote_names_the_row_where_it_was_opened(tmp_path: Path):
    lines = b'id,b\n1,x\n2,"open\n' + b"3,x\n" * 1000
    assert_refused(look(tmp_path, lines), "UF-2005", "record 2 (line 3)")
    assert_refused(look(tmp_path, b'id,b\n1,"a\nb"\n2,"open\n3,"x"\n'), "UF-2005", "record 2 (line 4)")
    assert_refused(look(tmp_path, b'id,"b\n1,2\n'), "UF-2005", "header")


def test_control_totals(tmp_path: Path):
    control = "format: csv\ncontrol: {trailer_prefix: TRL, rows: _c1, sums: {amount: _c2}}"
    good = b"id,amount\n1,1.10\n2,2.20\nTRL,2,3.30\n"
    found = look(tmp_path, good, control)
    assert (found.reason, found.records) == (None, 2)
    assert_refused(look(tmp_path, good.replace(b"TRL,2", b"TRL,3"), control), "UF-2006", "says 3", "has 2")
    assert_refused(look(tmp_path, good.replace(b"3.30", b"3.31"), control), "UF-2006", "sum of amount", "says 3.31", "has 3.30")
    assert_refused(look(tmp_path, good.replace(b"TRL,2,3.30\n", b""), control), "UF-2006", "no trailer 'TRL'", "2 records")
    assert_refused(look(tmp_path, good + b"3,1\n", control), "UF-2006", "follows the trailer")
    assert_refused(look(tmp_path, good.replace(b",3.30\n", b"\n"), control), "UF-2006", "_c2")
    layout = "format: fixed_width\noptions: {fields: {id: [1, 3], amount: [4, 6]}}"
    control = layout + "\ncontrol: {trailer_prefix: TRL, rows: _c1, sums: {amount: _c2}}"
    assert look(tmp_path, b"001 12.50\n002  1.50\nTRL 2 14.00\n", control).reason is None
    assert_refused(look(tmp_path, b"001 12.50\nTRL 2 14.00\n", control), "UF-2006", "has 1")
    assert_refused(
        look(tmp_path, b"001 12.50\n002 1.50\nTRL 1 12.50\n", control), "UF-2006", "line 3", "'control.rows'"
    )


HEADED = """format: csv
control: {header_prefix: 'HDR,', header_date: _c1, header_sequence: _c2, header_rows: _c3, trailer_prefix: 'TRL,', rows: _c1,
          file_name: 'bills_(?P<date>\\d+)(_(?P<sequence>\\d+))?\\.csv'}"""
FIRST, NAMES, BODY, LAST = b"HDR,2024-03-05,007,2\n", b"id,b\n", b"1,x\n2,y\n", b"TRL,2\n"


@pytest.mark.parametrize("name", ["bills_20240305_7.csv", "bills_20240305.csv", "sub/bills_202403_07.csv"])
@pytest.mark.parametrize(
    "first", [FIRST, b"\xef\xbb\xbf" + FIRST, FIRST.replace(b"-05,", b"-05T06:00:00Z,"), FIRST[:-1] + b",more\r\n"]
)
def test_a_header_record_comes_before_the_column_names(tmp_path: Path, name: str, first: bytes):
    found = look(tmp_path, first + NAMES + BODY + LAST, HEADED, name)
    assert (found.reason, found.records, found.names) == (None, 2, ("id", "b"))


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (NAMES + BODY + LAST, "UF-2006", ("line 1", "without its header 'HDR,'", "'control.header_prefix'")),
        (NAMES + BODY + FIRST + LAST, "UF-2006", ("line 1", "without its header")),
        (b"\n\n" + NAMES + FIRST + BODY + LAST, "UF-2006", ("line 3", "without its header")),
        (FIRST + FIRST + NAMES + BODY + LAST, "UF-2006", ("line 2", "second header", "'control.header_prefix'")),
        (FIRST + NAMES + b"1,x\n" + FIRST + b"2,y\n" + LAST, "UF-2006", ("line 4", "second header", "after record 1")),
        (FIRST + NAMES + BODY + LAST + FIRST, "UF-2006", ("line 6", "follows the trailer", "'control.trailer_prefix'")),
        (FIRST + NAMES + b"1,x\n" + b"TRL,1\n", "UF-2006", ("line 1", "header says 2, the file has 1", "'control.header_rows'")),
        (FIRST + NAMES + BODY + b"TRL,3\n", "UF-2006", ("line 5", "trailer says 3, the file has 2", "'control.rows'")),
        (b"HDR,2024-03-05,7\n" + NAMES + BODY + LAST, "UF-2006", ("line 1", "no number in _c3", "'control.header_rows'")),
        (b"HDR,2024-02-30,7,2\n" + NAMES + BODY + LAST, "UF-2006", ("line 1", "no date in _c1", "'control.header_date'")),
        (b"HDR,05/03/2024,7,2\n" + NAMES + BODY + LAST, "UF-2006", ("line 1", "no date in _c1")),
        (b"HDR,2024-03-06,7,2\n" + NAMES + BODY + LAST, "UF-2006", ("says 2024-03-06, the file's name 20240305",)),
        (b"HDR,2024-03-05,8,2\n" + NAMES + BODY + LAST, "UF-2006", ("sequence: the header says 8, the file's name 7",)),
        (b"HDR,2024-03-05,7.0,2\n" + NAMES + BODY + LAST, "UF-2006", ("no sequence in _c2", "'control.header_sequence'")),
        (FIRST, "UF-2001", ("no header",)),
        (FIRST + LAST, "UF-2002", ("no column 'id'",)),
        (FIRST + NAMES, "UF-2006", ("no trailer 'TRL,'",)),
        (b"HDR,2024-03-05,7,0\n" + NAMES + b"TRL,0\n", "UF-2001", ("no records",)),
        (b"HDR," + b"x" * 2000 + b"\n" + NAMES + BODY + LAST, "UF-2009", ("line 1", "longer than 1500 bytes")),
    ],
)  # fmt: skip
def test_a_header_record_that_does_not_fit(tmp_path: Path, content: bytes, code: str, words: tuple[str, ...]):
    name, limits = "bills_20240305_7.csv", Limits(max_record_bytes=1500)
    for same in (content, content.replace(b"2,y", b'2,"y"z')):  # of the second each line is for the slow parser
        assert_refused(look(tmp_path, same, HEADED, name, limits=limits), code, *words)


def test_a_header_beyond_what_is_looked_at(tmp_path: Path):
    long = b"HDR,2024-03-05,7,2," + b"x" * 1_100_000 + b"\n"
    assert_refused(
        look(tmp_path, long + NAMES + BODY + LAST, HEADED, "bills_20240305.csv"), "UF-2009", "line 1", "goes on after"
    )
    columns = b"id," + b"x" * 1_100_000 + b"\n"
    assert_refused(look(tmp_path, columns + BODY), "UF-2009", "line 1", "the header goes on after 1048576 bytes")


def test_a_name_without_the_pattern(tmp_path: Path):
    content = FIRST + NAMES + BODY + LAST
    assert_refused(
        look(tmp_path, content, HEADED, "bills.csv"), "UF-2006", "'control.file_name'", "does not hold the pattern"
    )


def test_header_records_of_fixed_width(tmp_path: Path):
    layout = "format: fixed_width\noptions: {fields: {id: [1, 3], amount: [4, 6]}}"
    control = layout + "\ncontrol: {header_prefix: HDR, header_rows: _c2, header_date: _c1}"
    found = look(tmp_path, b"HDR 20240305 2\n001 12.50\n002  1.50\n\n", control)
    assert (found.reason, found.records, found.kind) == (None, 2, "lines")
    assert_refused(
        look(tmp_path, b"HDR 20240305 3\n001 12.50\n002  1.50\n", control), "UF-2006", "line 1", "says 3", "has 2"
    )
    assert_refused(look(tmp_path, b"HDR 20241305 1\n001 12.50\n", control), "UF-2006", "line 1", "no date")
    assert_refused(look(tmp_path, b"001 12.50\nHDR 20240305 1\n", control), "UF-2006", "line 1", "without its header")
    assert_refused(
        look(tmp_path, b"HDR 20240305 1\nHDR 20240305 1\n001 12.50\n", control), "UF-2006", "line 2", "second"
    )
    assert_refused(look(tmp_path, b"\n\n", control), "UF-2006", "without its header")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (BODY, "lines"),
        (b'1,"x"\n2,"TRL,9"\n', "lines"),
        (b'1,"x\nTRL,9"\n2,y\n', "staged"),
        (b"1,x\n\n2,y\n", "staged"),
    ],
)
def test_records_between_header_and_trailer_are_read_line_by_line_where_that_is_safe(
    tmp_path: Path, body: bytes, kind: str
):
    found = look(tmp_path, FIRST + NAMES + body + LAST + b"\n", HEADED, "bills_20240305_7.csv")
    assert (found.reason, found.records, found.kind) == (None, 2, kind)
    if kind == "staged":
        assert "read by the slow parser" in found.notes[0]


@pytest.mark.parametrize(
    "name", ["a.csv.tmp", "a.csv.part", "a.partial", "a.CRDOWNLOAD", "a.filepart", "a.csv~", ".a", "_a"]
)
def test_temporary_names_are_never_stable(tmp_path: Path, name: str):
    found = look(tmp_path, b"id\n1\n", name=name)
    assert (found.stable, found.reason) == (False, None)


def test_a_young_file_is_not_stable(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id\n1\n")
    os.utime(path, (1000, 1000))
    young = feed("format: csv\nsettle_seconds: 60")
    assert not inspect_file(young, path, tmp_path, now=1059.0).stable
    assert inspect_file(young, path, tmp_path, now=1060.0).stable


def test_without_a_bound_the_senders_clock_does_not_matter(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id\n1\n")
    os.utime(path, (2e9, 2e9))
    assert inspect_file(feed(), path, tmp_path, now=1e9).stable
    assert not inspect_file(feed("format: csv\nsettle_seconds: 1"), path, tmp_path, now=1e9).stable


def test_a_file_that_vanishes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.csv"
    found = inspect_file(feed(), path, tmp_path)
    assert_refused(found, "UF-2007", "vanished")
    path.write_bytes(b"id\n1\n")
    monkeypatch.setattr(module, "_scanner", lambda *_: path.unlink())
    found = inspect_file(feed(), path, tmp_path)
    assert_refused(found, "UF-2007", "vanished")
    assert not found.stable


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id\n1\n")

    class Growing(LineScan):
        def finish(self) -> None:
            super().finish()
            with path.open("ab") as stream:
                stream.write(b"2\n")

    monkeypatch.setattr(module, "LineScan", Growing)
    found = inspect_file(feed(), path, tmp_path)
    assert_refused(found, "UF-2007", "changed")
    assert not found.stable


def test_a_path_that_leaves_the_landing_root_by_a_link(tmp_path: Path):
    landing = tmp_path / "landing"
    landing.mkdir()
    (tmp_path / "secret.csv").write_text("id\n1\n")
    (landing / "link.csv").symlink_to(tmp_path / "secret.csv")
    (landing / "folder").symlink_to(tmp_path)
    (landing / "inside.csv").write_text("id\n1\n")
    (landing / "alias.csv").symlink_to(landing / "inside.csv")
    (landing / "circle.csv").symlink_to(landing / "circle.csv")
    (landing / "broken.csv").symlink_to(landing / "none.csv")
    found = {p.name: inspect_file(feed(), p, landing) for p in find_files(feed(), landing)}
    assert_refused(found["link.csv"], "UF-2008", "leads out of the landing root")
    assert found["inside.csv"].reason is None
    assert found["alias.csv"].reason is None
    assert found["circle.csv"].reason is not None
    assert_refused(found["broken.csv"], "UF-2007")
    assert_refused(inspect_file(feed(), landing / "folder" / "secret.csv", landing), "UF-2008")


def test_names_with_control_characters_and_other_things(tmp_path: Path):
    assert "UF-2008: a?b.csv" in str(look(tmp_path, b"id\n1\n", name="a\nb.csv").reason)
    os.mkfifo(tmp_path / "pipe.csv")
    assert_refused(inspect_file(feed(), tmp_path / "pipe.csv", tmp_path), "UF-2011", "no plain file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id\n1\n")
    path.chmod(0)
    assert_refused(inspect_file(feed(), path, tmp_path), "UF-2011")


def test_a_file_that_may_not_be_read_by_the_systems_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "_scanner", refuse)
    found = look(tmp_path, b"id\n1\n")
    assert_refused(found, "UF-2011", "Permission denied")
    assert (found.size, found.mtime_ns) == (0, 0)  # so that the next run looks again


def test_an_endless_line(tmp_path: Path):
    limits = Limits(max_record_bytes=1000)
    assert_refused(look(tmp_path, b"id,b\n1," + b"x" * 5_000_000, limits=limits), "UF-2009", "longer than 1000")
    assert_refused(look(tmp_path, b'id,b\n1,"' + b"x\n" * 2000 + b'"\n', limits=limits), "UF-2009", "too long")


LONG_LINE = """
import resource, sys
from pathlib import Path
import pyarrow.parquet as pq
from utilityflow.bronze.feeds import parse_feed
from utilityflow.bronze.inspect import inspect_file

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

folder = Path(sys.argv[1])
feed = parse_feed(sys.argv[2], "f.yaml")
(folder / "small.jsonl").write_text('{"id": 1}\\n')
inspect_file(feed, folder / "small.jsonl", folder, stage=folder / "s")
before = peak()
found = inspect_file(feed, folder / "a.jsonl", folder, stage=folder / "s")
assert (found.reason, found.records) == (None, 4), found
rows = [row for part in found.parts for row in pq.read_table(part.path).to_pylist()]
assert [(r["_row_number"], r["id"]) for r in rows] == [(1, "1"), (2, None), (3, "3"), (4, "4")], rows
assert rows[1]["_file_name"] == "a.jsonl" and len(rows[1]["_corrupt_record"]) < 1200
print(rows[1]["_corrupt_record"][-80:])
print(peak() - before)
"""


def test_a_json_line_of_100_mb_is_kept_out_and_the_other_lines_load(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"id": 1}\n{"id": 2, "text": "')
        for _ in range(100):
            stream.write(b"x" * 1_000_000)
        stream.write(b'"}\n{"id": 3}\r\n{"id": 4}')
    script = [sys.executable, "-c", LONG_LINE, str(tmp_path), HEAD + "format: jsonl\n"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    raw, grown = done.stdout.splitlines()
    assert raw.endswith("(the beginning of a line of 100,000,022 characters; 16,777,216 are the bound)")
    assert int(grown) < 100, "MiB: not the whole line"  # 70 without it, for chunks of 4 MiB and a line up to the bound


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_json_lines_around_the_bound(tmp_path: Path, end: str):
    first = '{"id": 1}' + end
    limits = Limits(max_record_bytes=9)
    for content, records in ((first, 1), ('{"id": 1} ' + end, 1), ("\n" + first, 1), (first + "\n" + '{"id": 22}' + end, 2)):
        path = tmp_path / "a.jsonl"
        path.write_bytes(content.encode())
        with path.open(newline="") as stream:
            found = list(jsonl_records(feed("format: jsonl"), stream, "a.jsonl", limits))
        assert len(found) == records
        long = "2" in content or "} " in content
        assert [raw is None for _, _, raw in found] == [True] * (records - long) + [False] * long, content


def test_what_is_not_its_format(tmp_path: Path):
    assert_refused(look(tmp_path, b"PAR1 no", "format: parquet", "a.parquet"), "UF-2009", "no readable Parquet")
    binary = pa.table({"id": pa.array([b"a", b"\xff"], pa.binary()), "n": pa.array([1, 2], pa.time32("s"))})
    pq.write_table(binary, tmp_path / "binary.parquet")
    found = inspect_file(feed("format: parquet"), tmp_path / "binary.parquet", tmp_path)
    assert_refused(found, "UF-2009", "binary.parquet", "no readable Parquet file")
    assert_refused(look(tmp_path, b"<feed>", "format: greenbutton", "a.xml"), "UF-2009", "line 1")
    assert_refused(look(tmp_path, b"<feed/>", "format: greenbutton", "a.xml"), "UF-2009", "no IntervalReading")
    bomb = b'<!DOCTYPE f [<!ENTITY a "aaaa">]><feed>&a;</feed>'
    assert_refused(look(tmp_path, bomb, "format: greenbutton", "a.xml"), "UF-2009", "EntitiesForbidden")
    assert_refused(look(tmp_path, b'[{"id": 1}, {"id": ]', "format: json"), "UF-2009", "element 2")
    assert_refused(look(tmp_path, b'[{"id": 1} {"id": 2}]', "format: json"), "UF-2009", "after element 1")
    assert_refused(look(tmp_path, b'{"id": 1} x', "format: json"), "UF-2009", "follows the end")
    assert_refused(look(tmp_path, b"7", "format: json"), "UF-2009", "array or an object")
    assert_refused(look(tmp_path, b"[" * 100_000, "format: json"), "UF-2009")


@pytest.mark.parametrize(
    ("content", "records", "kind"),
    [
        (b"id\n1\n2", 2, "lines"),
        (b"id\n1\n\n\n", 1, "lines"),
        (b"id\r1\r2\r", 2, "staged"),
        (b"id\n1\r2\n", 2, "staged"),
        (b"\nid\n1\n", 1, "staged"),
        (b"id\n1\n\n2\n", 2, "staged"),
        (b'id\n"1\n1"\n2\n', 2, "staged"),
        (b'id,b\n1,5" pipe\n', 1, "staged"),
        (b'id,b\n1,"a"b\n', 1, "staged"),
        (b'id,b\n"1","a""b,c"\n', 1, "lines"),
        (b'\xef\xbb\xbf"id",b\n1,2\n', 1, "staged"),
        (b"\xef\xbb\xbfid\n1\n", 1, "lines"),
        (b"id\n\xef\xbb\xbf1\n", 1, "staged"),
    ],
)
def test_only_safe_files_are_read_line_by_line(tmp_path: Path, content: bytes, records: int, kind: str):
    found = look(tmp_path, content)
    assert (found.reason, found.records, found.kind) == (None, records, kind)


def test_odd_names_are_not_given_to_the_engine(tmp_path: Path):
    kinds = {
        n: look(tmp_path, b"id\n1\n", name=n).kind for n in ("a b.csv", "a#b.csv", "a[1].csv", "a%20b.csv", "ä.csv")
    }
    assert kinds == {
        "a b.csv": "lines",
        "a#b.csv": "staged",
        "a[1].csv": "staged",
        "a%20b.csv": "staged",
        "ä.csv": "staged",
    }


def test_drift_is_noted(tmp_path: Path):
    found = look(tmp_path, b"b,id,new\n1,2,3\n")
    assert found.drift(["id", "b", "old"]) == (
        "a.csv: new column 'new'", "a.csv: column 'old' is not in this file", "a.csv: columns come in another order",
    )  # fmt: skip


def test_find_files(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    for name in ("b.csv", "a.csv", "sub/c.csv", "d.txt"):
        (tmp_path / name).write_text("x")
    wanted = parse_feed(HEAD.replace("**/*", "*.csv") + "format: csv\n", "f")
    assert [p.name for p in find_files(wanted, tmp_path)] == ["a.csv", "b.csv"]
    with pytest.raises(UtilityFlowError, match="UF-1008"):
        find_files(wanted, tmp_path / "none")


def test_blocks_number_lines_as_the_engine_cuts_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("utilityflow.bronze.scan.BLOCK", 8)
    text = b"a\nbbbb\ncc\n" + b"d" * 30 + b"\nee\nff"
    scan = LineScan("x", Limits(), utf8=True)
    for start in range(0, len(text), 4):
        scan.feed(text[start : start + 4])
    scan.finish()
    lines = text.split(b"\n")
    starts = [sum(len(line) + 1 for line in lines[:i]) for i in range(len(lines))]
    for block in line_blocks(scan, single=False):
        first, last = block.start, block.start + 8
        mine = [i for i, s in enumerate(starts) if (first < s if first else True) and s <= last]
        assert (block.first_line, block.lines) == (mine[0] if mine else block.first_line, len(mine))
    assert scan.lines == len(lines)


class Thorough(LineScan):
    """Looks for everything in whole copies of the text, whatever it holds."""

    def _check_lines(self, chunk: bytes) -> None:
        text = self._carry + chunk
        cut = text.rfind(b"\n") + 1
        self._carry = text[cut:]
        self._check_body(text[:cut])
        if self.odd:
            self._carry = b""

    def _check_length(self, chunk: bytes) -> None:
        ends = [i for i in (chunk.find(b"\n"), chunk.find(b"\r")) if i >= 0]
        self._run += min(ends, default=len(chunk))
        if self._run > self.limits.max_record_bytes:
            bound = self.limits.max_record_bytes
            raise UtilityFlowError("UF-2009", f"{self.name}: line {self.newlines + 1} is longer than {bound} bytes")
        if ends:
            self._run = len(chunk) - 1 - max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))

    def _check_body(self, body: bytes) -> None:
        if not body:
            return
        if returns := body.count(b"\r"):
            self.crlf = True
            if returns != body.count(b"\r\n"):
                self.odd = "a carriage return that is no part of a line end"
                return
        filled = body.rstrip(b"\r\n")
        blank = filled.startswith((b"\n", b"\r\n")) or b"\n\n" in filled or b"\n\r\n" in filled
        if filled and (self._tail > 1 or blank):
            self.odd = "blank lines"
            return
        ends = body.count(b"\n", len(filled))
        self._tail = ends if filled else self._tail + ends
        if self.quoted is not None and self.quote in body and self.quote in self.quoted.sub(b"", body):
            self.odd = "quotes that span lines or stand within a field"
        if b"\n" + codecs.BOM_UTF8 in body or (self.size and body.startswith(codecs.BOM_UTF8)):
            self.odd = "a byte order mark within the text"
        if self.forbidden and self.forbidden in body:
            self.odd = "escape characters"


PIECES = [b"a", b"b,c", b"1,2\n", b"\n", b"\r\n", b"\r", b'"', b'"x"', "\u00e4".encode(), codecs.BOM_UTF8, b"\\", b"xxxxxxxx"]
FEWER = st.lists(st.sampled_from(PIECES[:5] + PIECES[7:9]), max_size=30)  # mostly sound


@given(pieces=st.one_of(FEWER, st.lists(st.sampled_from(PIECES), max_size=30)), sizes=st.lists(st.integers(1, 9), min_size=1),
       tail=st.integers(1, 5))  # fmt: skip
def test_what_is_not_looked_for_is_not_there(pieces: list[bytes], sizes: list[int], tail: int):
    """The scan finds in any text, however it is cut into chunks, what a look for everything finds."""
    text, scans = b"".join(pieces), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_module, "_TAIL", tail)
        for kind in (LineScan, Thorough):
            scan = kind("x", Limits(max_record_bytes=20), utf8=True, quoted=quoted_fields(",", '"'), quote=b'"', forbidden=b"\\")
            start, number, raised = 0, 0, ""
            try:
                while start < len(text):
                    size = sizes[number % len(sizes)]
                    scan.feed(text[start : start + size])
                    start, number = start + size, number + 1
                scan.finish()
            except UtilityFlowError as error:
                raised = str(error)
            scans.append((raised, scan.odd, scan.crlf, scan.lines, scan.blank_lines, scan.newlines, scan.size, scan.blocks))
    assert scans[0] == scans[1]


@pytest.mark.parametrize("tail", [b"\n", b"\r\n", b"\n" * 5000, b"\r\n" * 5000])
def test_blank_lines_at_the_end_are_no_records(tmp_path: Path, tail: bytes):
    found = look(tmp_path, b"id\n1" + tail)
    assert (found.reason, found.records, found.kind) == (None, 1, "lines")
