"""Generic XML: one record per element, its columns, and what is refused. Hostile files are made here."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from pathlib import Path

import pytest

from utilityflow.bronze.feeds import Feed, parse_feed
from utilityflow.bronze.inspect import Inspection, Limits, inspect_file
from utilityflow.bronze.records import Record
from utilityflow.bronze.staging import parse_records
from utilityflow.errors import UtilityFlowError


def feed(options: str = "{record: r}") -> Feed:
    return parse_feed(
        "feed: f\nsystem: regulatory_reporting\nentity: meter_reads\nformat: xml\npath: '**/*'\n"
        f"options: {options}\ncolumns: {{meter_id: id}}\n",
        "f.yaml",
    )


def read(folder: Path, content: str | bytes, options: str = "{record: r}", limits: Limits | None = None) -> list[Record]:
    path = folder / "a.xml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(parse_records(feed(options), path, "a.xml", limits or Limits()))


def refusal(folder: Path, content: str | bytes, options: str = "{record: r}", limits: Limits | None = None) -> str:
    with pytest.raises(UtilityFlowError) as caught:
        read(folder, content, options, limits)
    return str(caught.value)


def look(folder: Path, content: bytes, name: str = "a.xml", limits: Limits | None = None) -> Inspection:
    path = folder / name
    path.write_bytes(content)
    return inspect_file(feed(), path, folder, limits)


def columns(record: Record) -> dict[str, str | None]:
    assert record[1] is not None, record
    return dict(zip(record[0], record[1], strict=True))


# -- columns -----------------------------------------------------------------------------------------------------------


def test_attributes_and_elements_become_columns(tmp_path: Path):
    found = read(tmp_path, """<?xml version="1.0"?>
<trail xmlns="urn:x" made="2026">
  <!-- a comment -->
  <r id="7" Kind="change"><User-Name> Ann </User-Name><at unit="s">12</at><where><city>B&amp;C</city><zip/></where></r>
</trail>""")  # fmt: skip
    assert [columns(r) for r in found] == [
        {"id": "7", "kind": "change", "user_name": "Ann", "at_unit": "s", "at": "12", "where_city": "B&C", "where_zip": ""}
    ]
    assert found[0][0].raw == ("id", "Kind", "User-Name", "at/unit", "at", "where/city", "where/zip")  # type: ignore[attr-defined]


def test_a_repeat_is_numbered_where_it_repeats(tmp_path: Path):
    """The second line's tax stays with the second line, although the first has none."""
    told = "<r><line><amount>1</amount></line><line><amount>2</amount><tax>3</tax></line><tag>a</tag><tag>b</tag></r>"
    assert columns(read(tmp_path, told)[0]) == {
        "line_amount": "1", "line_2_amount": "2", "line_2_tax": "3", "tag": "a", "tag_2": "b",
    }  # fmt: skip


def test_columns_that_come_later(tmp_path: Path):
    found = read(tmp_path, "<x><r><id>1</id></r><r><b>2</b><id>3</id></r><r><id>4</id></r></x>")
    assert [r[1] for r in found] == [["1"], ["3", "2"], ["4", None]]
    assert [r[0] for r in found] == [("id",), ("id", "b"), ("id", "b")]


def test_texts(tmp_path: Path):
    nil = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    told = f'<x {nil}><r xsi:type="t"><id>\n  1<!-- c -->2 \n</id><b><![CDATA[<b> & c]]></b><c xsi:nil="true"/><d e="1"/></r></x>'
    assert columns(read(tmp_path, told)[0]) == {"id": "12", "b": "<b> & c", "c": None, "d_e": "1"}
    assert columns(read(tmp_path, "<x><r id='1'>text</r></x>")[0]) == {"id": "1", "r": "text"}


def test_text_beside_elements_makes_the_record_corrupt(tmp_path: Path):
    found = read(tmp_path, "<x><r><id>1</id>see <b>this</b></r><r><n>a <i>b</i></n></r><r><id>2</id></r></x>")
    assert [r[1] for r in found] == [None, None, ["2"]]
    assert found[0][2] == "<r><id>1</id>see <b>this</b></r>"


def test_two_things_never_share_a_column(tmp_path: Path):
    both = '<x><r><id>1</id></r><r id="2"/></x>'
    told = refusal(tmp_path, both)
    assert "UF-2009: a.xml: record 2: element 'id' and attribute 'id' would both be column 'id'" in told
    assert "options.attribute_prefix" in told
    found = read(tmp_path, both, "{record: r, attribute_prefix: at_}")
    assert [r[1] for r in found] == [["1"], [None, "2"]]
    assert found[1][0] == ("id", "at_id")
    assert "would both be column 'name'" in refusal(tmp_path, "<x><r><Name/><name/></r></x>")
    assert "would both be column 'a_2'" in refusal(tmp_path, "<x><r><a/><a/><a.2/></r></x>")
    assert "would both be column 'b'" in refusal(tmp_path, "<r xmlns:p='u' xmlns:q='v' p:b='1' q:b='2'/>")


# -- the record element ------------------------------------------------------------------------------------------------

FEED = """<f:feed xmlns:f="urn:f" xmlns:g="urn:g"><f:r id="0"/><f:entry><g:r id="1"/><f:r id="2"><f:r id="3"/></f:r></f:entry>
<other><f:r id="4"/></other></f:feed>"""


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ("{record: r}", ["0", "1", "2", "4"]),
        ("{record: entry/r}", ["1", "2"]),
        ("{record: /feed/r}", ["0"]),
        ("{record: 'x:r', namespaces: {x: 'urn:f'}}", ["0", "2", "4"]),
        ("{record: '/feed/x:entry/g:r', namespaces: {x: 'urn:f', g: 'urn:g'}}", ["1"]),
        ("{record: other/r}", ["4"]),
    ],
)
def test_which_elements_are_records(tmp_path: Path, options: str, ids: list[str]):
    assert [(r[1] or [""])[0] for r in read(tmp_path, FEED, options)] == ids


def test_a_record_within_a_record_is_a_part_of_it(tmp_path: Path):
    assert columns(read(tmp_path, FEED)[2])["r_id"] == "3"


def test_no_such_element(tmp_path: Path):
    told = refusal(tmp_path, "<x><reading/></x>", "{record: readng}")
    assert told == "UF-2001: a.xml: no element 'readng' in it (did you mean 'reading'?)"
    assert "no element '/r'" in refusal(tmp_path, "<x><r/></x>", "{record: /r}")
    assert "no element 'y:r'" in refusal(tmp_path, "<x><r/></x>", "{record: 'y:r', namespaces: {y: 'urn:y'}}")


# -- broken and hostile files ------------------------------------------------------------------------------------------


def test_a_broken_tail_refuses_the_whole_file_and_names_the_line(tmp_path: Path):
    whole = "<x>\n" + "<r><id>1</id></r>\n" * 50_000 + "</x>"
    assert len(read(tmp_path, whole)) == 50_000
    told = refusal(tmp_path, whole[:-4])
    assert told.startswith("UF-2009: a.xml: no well-formed XML, line 50002: ")
    assert "line 3:" in refusal(tmp_path, "<x>\n<r/>\n<r></x>")
    assert "line 2:" in refusal(tmp_path, "<x><r/></x>\n<x/>")
    found = inspect_file(feed(), tmp_path / "a.xml", tmp_path, stage=tmp_path / "stage")
    assert found.reason is not None
    assert not list((tmp_path / "stage").rglob("*.parquet"))


@pytest.mark.parametrize(
    "head",
    [
        "<!DOCTYPE x>",
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE x [<!ENTITY a "1">]>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>',
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    ],
)
def test_a_dtd_is_refused(tmp_path: Path, head: str):
    body = "<x><r><id>1</id></r></x>"
    assert len(read(tmp_path, body)) == 1
    assert "UF-2009: a.xml: XML with a DTD or entities is refused (DTDForbidden)" in refusal(tmp_path, head + body)


def test_an_entity_that_nobody_declared(tmp_path: Path):
    assert "undefined entity" in refusal(tmp_path, "<x><r><id>&a;</id></r></x>")


def test_encodings(tmp_path: Path):
    told = "<x><r><id>Größe</id></r></x>"
    for name in ("iso-8859-1", "utf-16", "windows-1252"):
        content = f'<?xml version="1.0" encoding="{name}"?>{told}'.encode(name)
        assert read(tmp_path, content)[0][1] == ["Größe"]
    assert "unknown encoding" in refusal(tmp_path, f'<?xml version="1.0" encoding="nope"?>{told}')
    assert "no well-formed XML" in refusal(tmp_path, told.encode("iso-8859-1"))
    assert "multi-byte encodings" in refusal(tmp_path, f'<?xml version="1.0" encoding="shift_jis"?>{told}')


def test_gzip(tmp_path: Path):
    packed = gzip.compress(b"<x><r><id>1</id></r></x>")
    found = look(tmp_path, packed, "a.xml.gz")
    assert (found.reason, found.records, found.kind) == (None, 1, "staged")
    reason = look(tmp_path, packed[:-6], "a.xml.gz").reason
    assert reason is not None
    assert reason.code == "UF-2003"
    bomb = gzip.compress(b"<x>" + b" " * 5_000_000 + b"<r><id>1</id></r></x>")
    assert "unpacks to more than" in str(look(tmp_path, bomb, "a.xml.gz", Limits(max_decompressed_bytes=1_000_000)).reason)


def test_a_record_without_bound(tmp_path: Path):
    limits = Limits(max_record_bytes=100_000)
    many = "<x><r><id>1</id></r><r>" + "<a/>" * 2_000 + "</r></x>"
    assert "record 2 is larger than 100000 bytes" in refusal(tmp_path, many, limits=limits)
    long = f"<x><r><id>{'y' * 150_000}</id></r></x>"
    assert "record 1 is larger than 100000 bytes" in refusal(tmp_path, long, limits=limits)
    token = f"<x><r id='{'y' * 500_000}'/></x>"
    assert "a tag or comment is longer than 100000 bytes" in refusal(tmp_path, token, limits=limits)
    for content in (many, long, token):
        assert read(tmp_path, content)
    outside = f"<x>{'y' * 500_000}<r><id>1</id></r>{'<!-- -->' * 50_000}</x>"
    assert len(read(tmp_path, outside, limits=limits)) == 1


def test_too_many_columns(tmp_path: Path):
    many = "<x><r>" + "".join(f"<a{n}/>" for n in range(50)) + "</r></x>"
    assert "record 1: more than 40 columns" in refusal(tmp_path, many, limits=Limits(max_columns=40))
    assert len(read(tmp_path, many, limits=Limits(max_columns=50))[0][0]) == 50


def test_deep_nesting_and_long_tags(tmp_path: Path):
    assert len(read(tmp_path, "<r>" + "<a>" * 99 + "</a>" * 99 + "</r>")) == 1
    assert "nested too deeply" in refusal(tmp_path, "<r>" + "<a>" * 100 + "</a>" * 100 + "</r>")
    assert "nested too deeply" in refusal(tmp_path, "<a>" * 100_000)
    assert "a tag is longer than 1000" in refusal(tmp_path, f"<x><{'y' * 1001}/></x>")


def test_memory_does_not_grow_with_the_number_of_records(tmp_path: Path):
    def peak(count: int) -> int:
        path = tmp_path / "a.xml"
        path.write_text("<x>" + "".join(f"<r><id>{n}</id></r><other/>" for n in range(count)) + "</x>")
        tracemalloc.start()
        assert sum(1 for _ in parse_records(feed(), path, "a.xml", Limits())) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(40_000) < peak(8_000) + 1_000_000


def test_any_damage_is_a_reason_and_never_an_error(tmp_path: Path):
    sound = b'<?xml version="1.0"?><x a="1">' + b'<r n="1"><id>1</id><b><c>2</c><c>3</c></b></r>' * 20 + b"</x>"
    rng = random.Random(5)
    codes = set()
    for _ in range(1000):
        text = bytearray(sound)
        for _ in range(rng.choice([1, 1, 3])):
            text[rng.randrange(len(text))] = rng.choice(b'<>/"0129aAxyz=: &;!\xff\x00')
        found = look(tmp_path, bytes(text))
        codes.add(found.reason.code if found.reason else None)
    assert codes <= {None, "UF-2001", "UF-2002", "UF-2009"}
    assert {None, "UF-2009"} <= codes
