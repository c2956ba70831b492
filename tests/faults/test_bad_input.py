"""Whatever lands, the run goes on: bad files are told and left out, bad records are quarantined, the rest loads.

One home and three runs: what is good and what is bad lands together; then files change and vanish under the reader's hands;
then they come to rest.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from utilityflow import pipeline
from utilityflow.bronze import ingest
from utilityflow.cli import main
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.settings import Settings, load_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from utilityflow.bronze.feeds import Feed

FEEDS = {
    "crm": """system: customer_management
entity: customers
format: csv
path: crm/*
time_zone: America/New_York
null_values: ["", "."]
columns: {customer_id: client_id, customer_name: name, zip_code: zip}
event: {effective_at: to_timestamp(changed_at)}
""",
    "legacy": """system: billing
entity: customers
format: csv
path: legacy/*.csv
options: {encoding: iso-8859-1, delimiter: ";", names: [nr, name, since]}
id_prefix: L-
time_zone: Europe/Paris
same_name: append
columns: {customer_id: nr, customer_name: name}
event: {effective_at: to_timestamp(since)}
""",
    "ami": """system: usage_monitoring
entity: meter_reads
format: jsonl
path: ami/*.jsonl.gz
columns: {meter_id: meter, quantity: "cast(kwh as decimal(18,6))", usage_date: cast(day as date)}
""",
    "paper": """system: usage_monitoring
entity: meter_reads
format: fixed_width
path: paper/*.txt
options: {fields: {meter: [1, 4], kwh: [5, 6], Day: [11, 10]}}
id_prefix: P-
control: {trailer_prefix: TRL, rows: _c1, sums: {kwh: _c2}}
columns: {meter_id: meter, quantity: "cast(kwh as decimal(18,6))", usage_date: cast(day as date)}
""",
    "lab": """system: usage_monitoring
entity: meter_reads
format: parquet
path: lab/*.parquet
columns: {meter_id: meter, quantity: "cast(kwh as decimal(18,6))", usage_date: cast(day as date)}
""",
}
HEAD = "Client ID,Name,ZIP,Changed at"


def compressed(*parts: str, padding: int = 0) -> bytes:
    return b"".join(gzip.compress(p.encode()) for p in parts) + bytes(padding)


LANDED: dict[str, bytes] = {
    "crm/good.csv": b"\xef\xbb\xbf" + "\r\n".join([
        HEAD,
        'C1,"Ann ""A"" Löwe\nsecond line, still her",01234,2025-03-09 02:30:00',  # an hour that New York does not have
        "C2,Bob,.,2025-11-02 01:30:00",  # one that it has twice
        f"C3,{'x' * 101},1,2025-01-01 00:00:00",
        "C4,Cid,1,31/02/2025",
        "C5,too,many,fields,here",
        ",nobody,1,2025-01-01 00:00:00", "",
    ]).encode(),
    "crm/order.csv": b"Name,Client ID,Changed at,ZIP,Favourite colour\nDora,C6,2025-01-01 00:00:00,1,red\n",
    "crm/padded.csv.gz": compressed(f"{HEAD}\nC7,Eve,1,2025-01-01 00:00:00\n", "C8,Fay,1,2025-01-01 00:00:00\n", padding=700),
    "crm/empty.csv": b"",
    "crm/empty_too.csv": b"",
    "crm/header.csv": f"{HEAD}\n".encode(),
    "crm/missing.csv": b"Client ID,Name,ZIP,Changd at\nC9,x,1,2025-01-01\n",
    "crm/cut.csv.gz": compressed(f"{HEAD}\n" + "C9,x,1,2025-01-01 00:00:00\n" * 999)[:-9],
    "crm/latin.csv": f"{HEAD}\nC9,Größe,1,2025-01-01 00:00:00\n".encode("latin-1"),
    "crm/open.csv": f'{HEAD}\nC9,x,1,2025-01-01 00:00:00\nC9,"x,1,2025-01-01 00:00:00\n'.encode() * 3,
    "crm/new\nline.csv": f"{HEAD}\nC9,x,1,2025-01-01 00:00:00\n".encode(),
    "crm/half.csv.part": f"{HEAD}\nC9,x,1".encode(),
    "legacy/old.csv": "1;Jörg Größe;2025-07-01 00:00:00\n".encode("latin-1"),
    "ami/a.jsonl.gz": compressed('{"meter": "M1", "kWh": 1.10, "day": "2025-01-01"}\n{"meter": "M2", "kWh":\n'
                                 '{"meter": "M3", "kWh": "much", "day": "2025-01-01"}\n{"meter": "\\ud800", "kWh": 1}\n'),
    "paper/a.txt": b"M001  1.502025-01-01\nM002  2.502025-01-01\nTRL 2 4.00\n",
    "paper/short.txt": b"M003  1.502025-01-01\nTRL 2 4.00\n",
}  # fmt: skip
REJECTED = {
    "crm/empty.csv": ("UF-2001", "empty"),
    "crm/empty_too.csv": ("UF-2001", "empty"),
    "crm/header.csv": ("UF-2001", "a header and no records"),
    "crm/missing.csv": ("UF-2002", "no column 'changed_at', which 'effective_at' reads"),
    "crm/cut.csv.gz": ("UF-2003", "cut off"),
    "crm/latin.csv": ("UF-2004", "line 2"),
    "crm/open.csv": ("UF-2005", "record 2 (line 3)"),
    "crm/new\nline.csv": ("UF-2008", "control characters"),
    "crm/bad\udcff.csv": ("UF-2008", "control characters"),
    "crm/link.csv": ("UF-2008", "leads out of the landing root"),
    "lab/foot.parquet": ("UF-2009", "no readable Parquet file"),
    "lab/page.parquet": ("UF-2009", "the engine cannot read it"),
    "paper/short.txt": ("UF-2006", "the trailer says 2, the file has 1"),
}


class Place:
    """A home with its landing root and feeds."""

    def __init__(self, folder: Path, spark: SparkSession) -> None:
        self.folder, self.landing, self.spark = folder, folder / "landing", spark
        (folder / "feeds").mkdir()
        for name, text in FEEDS.items():
            (folder / "feeds" / f"{name}.yaml").write_text(f"feed: {name}\n{text}", encoding="utf-8")

    @property
    def settings(self) -> Settings:
        places = {n: str(self.folder / n) for n in ("home", "landing", "feeds")}
        return load_settings(places, environ={})

    @property
    def words(self) -> list[str]:
        return [w for n in ("home", "landing", "feeds") for w in (f"--{n}", str(self.folder / n))]

    def land(self, name: str, content: bytes) -> Path:
        path = self.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def run(self) -> dict[str, dict[str, Any]]:
        answer = pipeline.run(self.settings, as_of=dt.date(2025, 12, 31), wanted=["bronze", "silver"])
        assert answer["error"] is None, answer["error"]
        return {f["file"]: f for f in answer["files"]}

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        house = Lakehouse(self.spark, str(self.folder / "home" / "lakehouse"), load_contracts())
        found = [tuple(r) for r in house.table(table).read().selectExpr(*columns).collect()]
        return sorted(found, key=repr)

    def customers(self) -> set[str]:
        return {r[0] for r in self.rows("silver.customers", "customer_id")}


def broken_page(path: Path) -> None:
    """A Parquet file whose footer is sound and whose data are not."""
    table = pa.table({"meter": ["M8"] * 5000, "kwh": [str(i * 7919 % 5000) for i in range(5000)], "day": ["2025-01-01"] * 5000})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    for at in range(60_000, 60_400):
        content[at] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture(scope="module")
def place(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What lands first. The tests below follow one another in it."""
    made = Place(tmp_path_factory.mktemp("bad_input"), spark)
    for name, content in LANDED.items():
        made.land(name, content)
    made.land(os.fsdecode(b"crm/bad\xff.csv"), f"{HEAD}\nC9,x,1,2025-01-01 00:00:00\n".encode())
    secret = made.folder / "secret.csv"
    secret.write_text(f"{HEAD}\nC9,x,1,2025-01-01 00:00:00\n")
    (made.landing / "crm" / "link.csv").symlink_to(secret)
    made.land("lab/foot.parquet", b"PAR1 and no more")
    broken_page(made.land("lab/page.parquet", b""))
    pq.write_table(pa.table({"meter": ["M7"], "kwh": ["7.5"], "day": ["2025-01-01"]}), made.landing / "lab" / "good.parquet")
    return made


@pytest.fixture(scope="module")
def first(place: Place) -> tuple[int, dict[str, Any]]:
    """Exit status and answer of the first run, as a scheduler sees them."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["run", "--json", "--select", "bronze", "silver", "--as-of", "2025-12-31", *place.words])
    return code, json.loads(out.getvalue())


@pytest.mark.engine
def test_bad_files_are_told_with_file_place_and_rule_and_fail_no_run(first: tuple[int, dict[str, Any]]) -> None:
    code, answer = first
    assert (code, answer["status"], answer["error"]) == (0, "succeeded", None)
    files = {f["file"]: f for f in answer["files"]}
    for name, (rule, words) in REJECTED.items():
        told = files[name]
        assert told["status"] == "rejected", name
        assert told["reason"].startswith(rule), told
        assert words in told["reason"], told
        shown = "".join(c if c.isprintable() else "?" for c in name)
        assert shown in told["reason"], told
        assert sum(told[n] for n in told if n.startswith("rows_")) == 0, told
    assert {n: f["status"] for n, f in files.items() if n not in REJECTED} == {
        "crm/good.csv": "loaded", "crm/order.csv": "loaded", "crm/padded.csv.gz": "loaded", "crm/half.csv.part": "skipped",
        "legacy/old.csv": "loaded", "ami/a.jsonl.gz": "loaded", "paper/a.txt": "loaded", "lab/good.parquet": "loaded",
    }  # fmt: skip
    counts = {n: [f[f"rows_{c}"] for c in ("read", "loaded", "quarantined")] for n, f in files.items() if f["rows_read"]}
    assert counts == {
        "crm/good.csv": [6, 2, 4], "crm/order.csv": [1, 1, 0], "crm/padded.csv.gz": [2, 2, 0], "legacy/old.csv": [1, 1, 0],
        "ami/a.jsonl.gz": [4, 1, 3], "paper/a.txt": [2, 2, 0], "lab/good.parquet": [1, 1, 0],
    }  # fmt: skip


@pytest.mark.engine
def test_nothing_of_a_bad_file_is_anywhere(place: Place, first: Any) -> None:
    loaded = {"crm": {"crm/good.csv", "crm/order.csv", "crm/padded.csv.gz"}, "legacy": {"legacy/old.csv"},
              "ami": {"ami/a.jsonl.gz"}, "paper": {"paper/a.txt"}, "lab": {"lab/good.parquet"}}  # fmt: skip
    for name, files in loaded.items():
        assert {r[0] for r in place.rows(f"bronze.{name}", "_file_name")} == files
    assert not [p for p in (place.folder / "home" / "tmp").iterdir() if not p.name.startswith("spark-")]


@pytest.mark.engine
def test_bad_records_are_quarantined_with_file_row_and_rule(place: Place, first: Any) -> None:
    found = place.rows("silver.customers__quarantine", "_file_name", "_row_number", "rules", "record")
    assert [(f, n, rules) for f, n, rules, _ in found] == [
        ("crm/good.csv", 3, ["length:customer_name"]),
        ("crm/good.csv", 4, ["conversion:effective_at", "required:effective_at"]),
        ("crm/good.csv", 5, ["corrupt_record"]),  # nothing else is said of what could not be parsed
        ("crm/good.csv", 6, ["required:customer_id"]),
    ]
    assert json.loads(found[0][3])["name"] == "x" * 101, "never cut"
    assert found[2][3] == "C5,too,many,fields,here"
    reads = place.rows("silver.meter_reads__quarantine", "_file_name", "_row_number", "rules[0]", "record")
    assert [(n, rule) for _, n, rule, _ in reads] == [(2, "corrupt_record"), (3, "conversion:quantity"), (4, "corrupt_record")]
    assert reads[0][3] == '{"meter": "M2", "kWh":'


@pytest.mark.engine
def test_good_records_come_through_as_they_are(place: Place, first: Any) -> None:
    found = place.rows("silver.customers", "customer_id", "customer_name", "zip_code", "unix_seconds(effective_at)")

    def at(text: str) -> int:
        return int(dt.datetime.fromisoformat(f"{text}+00:00").timestamp())

    new_year = at("2025-01-01T05:00:00")
    assert found == [
        ("C1", 'Ann "A" Löwe\nsecond line, still her', "01234", at("2025-03-09T07:30:00")),
        ("C2", "Bob", None, at("2025-11-02T05:30:00")),
        ("C6", "Dora", "1", new_year),
        ("C7", "Eve", "1", new_year),
        ("C8", "Fay", "1", new_year),
        ("L-1", "Jörg Größe", None, at("2025-06-30T22:00:00")),
    ]
    reads = place.rows("silver.meter_reads", "meter_id", "cast(quantity as double)")
    assert reads == [("M1", 1.1), ("M7", 7.5), ("P-M001", 1.5), ("P-M002", 2.5)]


@pytest.mark.engine
def test_drift_is_noted_and_the_new_column_kept(place: Place, first: Any) -> None:
    reasons = {r[0]: r[1] for r in place.rows("ops.file_ledger", "file_name", "reason")}
    assert "new column 'favourite_colour'" in reasons["crm/order.csv"]
    assert "columns come in another order" in reasons["crm/order.csv"]
    assert reasons["crm/padded.csv.gz"] is None or "order" not in reasons["crm/padded.csv.gz"]
    kept = place.rows("bronze.crm", "client_id", "favourite_colour")
    assert ("C6", "red") in kept
    house = Lakehouse(place.spark, str(place.folder / "home" / "lakehouse"), load_contracts())
    comments = {f.name: f.metadata.get("comment") for f in house.table("bronze.crm").read().schema}
    assert house.table("bronze.ami").read().schema["kwh"].metadata["comment"] == "kWh"
    assert house.table("bronze.paper").read().schema["day"].metadata["comment"] == "Day"
    assert {n: comments[n] for n in ("client_id", "changed_at", "favourite_colour")} == {
        "client_id": "Client ID", "changed_at": "Changed at", "favourite_colour": "Favourite colour",
    }  # fmt: skip


@pytest.mark.engine
def test_what_stood_goes_on_standing_when_its_successor_cannot_be_read(
    place: Place, first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.land("crm/good.csv", f'{HEAD}\nC9,"open\n'.encode())  # known name, bad content
    order = place.land("crm/order.csv", b"Name,Client ID,Changed at,ZIP\nDora,C66,2025-01-01 00:00:00,1\n")
    gone = place.land("crm/gone.csv", f"{HEAD}\nC9,x,1,2025-01-01 00:00:00\n".encode())
    slow = place.land("crm/slow.csv", f'{HEAD}\nC9,"x\ny",1,2025-01-01 00:00:00\n'.encode())
    place.land("crm/new.csv", f"{HEAD}\nC10,Gil,1,2025-01-01 00:00:00\n".encode())
    place.land("legacy/old.csv", b"2;Kim;2025-07-01 00:00:00\n")
    read, raced = ingest.read_files, []

    def racing(spark: SparkSession, feed: Feed, files: Any, stage: Path) -> Any:
        if feed.feed == "crm" and not raced:  # between looking and reading: one grows, one vanishes, one is cut
            raced.append(True)
            with order.open("ab") as stream:
                stream.write(b"Dora,C66,2025-02-01 00:00:00,1\n")
            gone.unlink()
            slow.write_bytes(slow.read_bytes()[:-30])
        return read(spark, feed, files, stage)

    monkeypatch.setattr(ingest, "read_files", racing)
    files = place.run()
    assert raced
    told = {n: (f["status"], (f["reason"] or "")[:7]) for n, f in files.items() if n not in REJECTED}
    assert told["crm/good.csv"] == ("rejected", "UF-2005")
    for name in ("crm/order.csv", "crm/gone.csv", "crm/slow.csv"):
        assert told[name] == ("rejected", "UF-2007"), name
    assert (told["crm/new.csv"][0], told["legacy/old.csv"][0]) == ("loaded", "loaded")
    assert "superseded" not in {status for status, _ in told.values()}
    assert place.customers() == {"C1", "C2", "C6", "C7", "C8", "C10", "L-1", "L-2"}


@pytest.mark.engine
def test_what_was_refused_is_looked_at_again(place: Place, first: Any) -> None:
    place.land("crm/slow.csv", f"{HEAD}\nC11,Hal,1,2025-01-01 00:00:00\n".encode())
    place.land("crm/empty.csv", f"{HEAD}\nC12,Ida,1,2025-01-01 00:00:00\n".encode())
    files = place.run()
    assert files["crm/order.csv"]["status"] == "superseding"
    assert files["crm/order.csv"]["rows_loaded"] == 2
    assert (files["crm/slow.csv"]["status"], files["crm/empty.csv"]["status"]) == ("loaded", "loaded")
    assert files["crm/empty_too.csv"]["status"] == "rejected"
    assert "crm/empty_too.csv" in files["crm/empty_too.csv"]["reason"]
    assert place.customers() == {"C1", "C2", "C66", "C7", "C8", "C10", "C11", "C12", "L-1", "L-2"}
    entries = place.rows("ops.file_ledger", "rows_read", "rows_loaded + rows_quarantined + rows_superseded + rows_duplicate",
                         "status")  # fmt: skip
    assert {status for *_, status in entries} == {"loaded", "superseded", "rejected"}
    assert [e for e in entries if e[0] != e[1]] == []


# -- feed files: refused before anything is made ----------------------------------------------------------------------

BAD_FEEDS = {
    "an unknown key": (("entity:", "entitty:"), 3, "unknown key 'entitty' (did you mean 'entity'?)"),
    "an unknown option": (("path: crm/*\n", "path: crm/*\noptions: {headr: true}\n"), 6, "did you mean 'header'?"),
    "a path that leaves its root": (("crm/*", "crm/../../*"), 5, "without '..'"),
    "a path from the root": (("crm/*", "/etc/*"), 5, "below the landing root"),
    "stars that stand in a name": (("crm/*", "crm/a**"), 5, "** stands alone"),
    "a function off the list": (("name, zip", "reflect('java.lang.System'), zip"), 8, "function 'reflect' may not be used"),
    "a subquery": (("name, zip", "(select 1), zip"), 8, "columns.customer_name"),
    "a clock": (("to_timestamp(changed_at)", "current_timestamp()"), 9, "event.effective_at"),
    "a zone that is none": (("America/New_York", "America/New_Yorck"), 6, "no IANA time zone"),
    "a coding that is no text": (("path: crm/*\n", "path: crm/*\noptions: {encoding: hex}\n"), 6, "name of an encoding"),
    "a delimiter that ends lines": (("path: crm/*\n", 'path: crm/*\noptions: {delimiter: "\\n"}\n'), 6, "ends no line"),
    "a delimiter that quotes": (("path: crm/*\n", "path: crm/*\noptions: {delimiter: '\"'}\n"), 6, "than quote"),
    "an unknown entity": (("entity: customers", "entity: custmers"), 0, "no entity 'custmers' (did you mean 'customers'?)"),
    "an unknown column": (("zip_code:", "zip_cod:"), 0, "no column 'zip_cod' to map (did you mean 'zip_code'?)"),
}


@pytest.mark.parametrize("case", BAD_FEEDS)
def test_a_bad_feed_file_ends_a_run_before_it_begins(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, line, words = BAD_FEEDS[case]
    text = f"feed: crm\n{FEEDS['crm']}"
    assert change[0] in text
    (tmp_path / "crm.yaml").write_text(text.replace(*change, 1), encoding="utf-8")
    code = main(["run", "--json", "--home", str(tmp_path / "home"), "--feeds", str(tmp_path)])
    told = capsys.readouterr()
    assert code == 2
    error = json.loads(told.out)["error"]
    place = f"crm.yaml:{line}:" if line else "crm.yaml:"
    assert place in error["message"], error
    assert words in str(told.err), error
    assert not (tmp_path / "home").exists()
