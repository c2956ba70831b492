"""Feed files: strict keys, options per format, names, definition hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from utilityflow.bronze.feeds import clean_names, load_feed, load_feeds, parse_feed
from utilityflow.errors import UtilityFlowError

MINIMAL = """
feed: cis_customers
system: customer_management
entity: customers
format: csv
path: cis_customers/*.csv
columns:
  customer_id: client_id
"""


def refused(text: str) -> UtilityFlowError:
    with pytest.raises(UtilityFlowError) as caught:
        parse_feed(text, "f.yaml")
    return caught.value


def test_the_keys_of_the_design_to_the_letter():
    feed = parse_feed(
        """
feed: cis_customers
system: customer_management
entity: customers
id_prefix: ""
format: csv
path: cis_customers/*.csv
options: {header: true, delimiter: ",", encoding: utf-8}
time_zone: America/New_York
mode: events
same_name: supersede
settle_seconds: 0
null_values: ["", "."]
control: {trailer_prefix: "TRL", rows: "_c1", sums: {amount: "_c2"}}
columns:
  customer_id: client_id
  customer_name: trim(name)
event:
  effective_at: to_timestamp(changed_at)
  sequence: cast(seq as bigint)
  operation: case op when 'D' then 'delete' else 'upsert' end
""",
        "cis.yaml",
    )
    assert feed.null_values == ("", ".")
    assert list(feed.event_columns()) == ["effective_at", "sequence", "operation"]
    assert set(feed.columns_read()) == {"client_id", "name", "changed_at", "seq", "op", "amount"}
    assert feed.expressions()["sequence"].sql == "try_cast(`seq` AS BIGINT)"


def test_defaults():
    feed = parse_feed(MINIMAL, "f.yaml")
    assert (feed.mode, feed.same_name, feed.settle_seconds, feed.null_values) == ("events", "supersede", 0, ("",))
    assert feed.options.header
    assert feed.time_zone is None


def test_unknown_feed_key_names_file_line_and_the_nearest():
    error = refused(MINIMAL + "time_zon: UTC\n")
    assert error.code == "UF-1001"
    assert str(error) == "UF-1001: f.yaml:9: unknown key 'time_zon' (did you mean 'time_zone'?)"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("options: {delimitr: ';'}", "UF-1001", "did you mean 'delimiter'"),
        ("options: {delimiter: ';;'}", "UF-1002", "one character"),
        ("options: {encoding: utf-99}", "UF-1002", "name of an encoding"),
        ("options: {header: false}", "UF-1002", "options.names"),
        ("options: {fields: {a: [1, 2]}}", "UF-1001", "unknown option 'fields' of format csv"),
        ("time_zone: Europe/Pariss", "UF-1002", "no IANA time zone"),
        ("mode: snapshot", "UF-1002", "snapshot_time"),
        ("snapshot_time: to_date(x)", "UF-1002", "belongs to mode snapshot"),
        ("duplicate_keys: first", "UF-1002", "'duplicate_keys' belongs to mode snapshot"),
        ("duplicate_keys: frist", "UF-1002", "did you mean 'first'"),
        ("mode: evens", "UF-1002", "did you mean 'events'"),
        ("settle_seconds: -1", "UF-1002", "0 or more"),
        ("control: {trailer_prefix: T}", "UF-1002", "at least one of rows and sums"),
        ("control: {trailer_prefix: T, rows: c1}", "UF-1002", "_c0, _c1"),
        ("control: {rows: _c1}", "UF-1002", "a header_prefix, or a trailer_prefix"),
        ("control: {header_prefix: H, rows: _c1}", "UF-1002", "a header_prefix, or a trailer_prefix"),
        ("control: {trailer_prefix: T, rows: _c1, header_rows: _c1}", "UF-1002", "where there is no header_prefix"),
        ("control: {header_prefix: T, trailer_prefix: T, rows: _c1}", "UF-1002", "two different prefixes"),
        ("control: {header_prefix: H, header_date: c1}", "UF-1002", "_c0, _c1"),
        ("control: {header_prefix: H, header_day: _c1}", "UF-1001", "did you mean 'header_date'"),
        ("control: {header_prefix: H, header_date: _c1, file_name: '(a'}", "UF-1002", "a regular expression"),
        ("control: {header_prefix: H, header_date: _c1, file_name: 'a'}", "UF-1002", "groups named date"),
        ("control: {header_prefix: H, header_date: _c1, file_name: '(?P<sequence>a)'}", "UF-1002", "groups named date"),
        ("event: {effective_at: now()}", "UF-1011", "'now' may not be used"),
        ("null_values: [NA, NULL]", "UF-1002", "'null_values[1]' must be a text"),
        ("options: {delimiter: '\"'}", "UF-1002", "another character than quote and escape"),
        ('options: {quote: "\\r"}', "UF-1002", "ends no line"),
        ("options: {encoding: hex}", "UF-1002", "name of an encoding"),
        ("event: {effectiv_at: x}", "UF-1001", "did you mean 'effective_at'"),
    ],
)
def test_wrong_values(change: str, code: str, words: str):
    error = refused(MINIMAL + change + "\n")
    assert error.code == code
    assert "f.yaml:" in str(error)
    assert words in str(error)


def test_texts_that_mean_null_stay_as_they_are_written():
    feed = parse_feed(MINIMAL + "null_values: [00, 0.0, 1_000, 9999-12-31, no, '']\n", "f.yaml")
    assert feed.null_values == ("00", "0.0", "1_000", "9999-12-31", "no", "")


@pytest.mark.parametrize(
    "path", ["a**b", "a/**.csv", "/etc/passwd", "../x.csv", "a/../../x.csv", "a\\b.csv", "a//b.csv", "./a.csv"]
)
def test_a_path_stays_under_the_landing_root(path: str):
    assert refused(MINIMAL.replace("cis_customers/*.csv", path)).code == "UF-1002"


def test_a_function_off_the_list_names_line_and_key():
    error = refused(MINIMAL.replace("client_id", "reflect('java.lang.System', 'exit')"))
    assert str(error).startswith("UF-1011: f.yaml:8: 'columns.customer_id': function 'reflect' may not be used")


REST = MINIMAL.replace("format: csv", "format: rest").replace("*.csv", "*.jsonl")
ADDRESS = "base_url: https://desk.example.org/requests"


def test_options_of_rest():
    given = f"""options:
  {ADDRESS}
  parameters: {{status: all}}
  headers: {{Accept-Language: en}}
  auth: {{kind: basic, user: "env:USER", secret: "file:/run/secrets/desk"}}
  records: data.items
  record_id: id
  paging: {{kind: page, first: 0, size_parameter: per_page, size: 100}}
  increment: {{field: updated_at, parameter: since, format: epoch_millis, overlap_seconds: 60, start: 2020-01-01T00:00:00Z}}
  limits: {{pages: 10, seconds: 60.5}}
"""
    feed = parse_feed(REST + given, "f")
    assert feed.file_format == "jsonl"
    assert (feed.extract.paging.first, feed.extract.increment.start) == (0, "2020-01-01T00:00:00Z")
    assert feed.extract.secrets == ("file:/run/secrets/desk", "env:USER")
    # how a source is asked says nothing of how its files are read
    assert feed.definition_hash() == parse_feed(f"{REST}options: {{{ADDRESS}}}\n", "f").definition_hash()


def test_an_address_of_rest_may_be_a_reference(monkeypatch: pytest.MonkeyPatch):
    given = "options: {base_url: 'env:DESK_URL', auth: {kind: bearer, secret: 'env:DESK_TOKEN'}}\n"
    monkeypatch.delenv("DESK_URL", raising=False)
    source = parse_feed(REST + given, "f").extract
    assert (source.configured, source.shown) == (False, "env:DESK_URL")
    assert source.secrets == ("env:DESK_URL", "env:DESK_TOKEN")
    with pytest.raises(UtilityFlowError, match="DESK_URL is not set"):
        source.resolved()
    monkeypatch.setenv("DESK_URL", "")
    assert not source.configured
    monkeypatch.setenv("DESK_URL", "http://127.0.0.1:8311/requests")
    assert (source.configured, source.shown) == (True, "env:DESK_URL")
    assert source.resolved().base_url == "http://127.0.0.1:8311/requests"
    wrong = {
        "http://hunter2.example.org/x": "must be https", "https://u:hunter2@h/x": "without user and password",
        "https://h/x?key=hunter2": "without a query", "hunter2": "https://host/path", "https://h:hunter2/x": "https://host",
    }  # fmt: skip
    for address, words in wrong.items():
        monkeypatch.setenv("DESK_URL", address)
        with pytest.raises(UtilityFlowError, match=words) as caught:
            source.resolved()
        assert caught.value.code == "UF-1010"
        assert "hunter2" not in str(caught.value)
    plain = parse_feed(f"{REST}options: {{{ADDRESS}}}\n", "f").extract
    assert plain.configured and plain.resolved() == plain and plain.secrets == ()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("{}", "UF-1002", "key 'base_url' is missing"),
        ("{base_url: 'env:'}", "UF-1002", "env:NAME or file:PATH"),
        ("{ADDRESS, pagin: {}}", "UF-1001", "did you mean 'paging'"),
        ("{ADDRESS, header: true}", "UF-1001", "unknown key 'header'"),
        ("{ADDRESS, paging: {kind: cursr}}", "UF-1002", "did you mean 'cursor'"),
        ("{ADDRESS, paging: {kind: cursor, sise: 1}}", "UF-1001", "did you mean 'size'"),
        ("{ADDRESS, paging: {kind: cursor, size: 0}}", "UF-1002", "1 or more"),
        ("{ADDRESS, paging: {kind: cursor, first: 1}}", "UF-1002", "of offset or page"),
        ("{ADDRESS, paging: {kind: cursor, next: ''}}", "UF-1002", "where the answer names the next page"),
        ("{base_url: 'http://desk.example.org/x'}", "UF-1002", "must be https"),
        ("{base_url: 'ftp://desk.example.org/x'}", "UF-1002", "https://host/path"),
        ("{base_url: 'https://u:p@desk.example.org/x'}", "UF-1002", "use 'auth'"),
        ("{base_url: 'https://desk.example.org/x?key=1'}", "UF-1002", "use 'parameters'"),
        ("{base_url: 'https://desk.example.org:port/x'}", "UF-1002", "https://host/path"),
        ("{base_url: '/etc/passwd'}", "UF-1002", "https://host/path"),
        ("{ADDRESS, parameters: {api_key: abc}}", "UF-1002", "its name is that of a secret"),
        ("{ADDRESS, headers: {Authorization: abc}}", "UF-1002", "its name is that of a secret"),
        ("{ADDRESS, headers: {'X Y': abc}}", "UF-1002", "a header that a feed may set"),
        ("{ADDRESS, headers: {Host: other}}", "UF-1002", "a header that a feed may set"),
        ("{ADDRESS, headers: {X: \"a\\r\\nb\"}}", "UF-1002", "one line"),
        ("{ADDRESS, auth: {kind: bearer, secret: hunter2}}", "UF-1002", "env:NAME or file:PATH"),
        ("{ADDRESS, auth: {kind: basic, secret: 'env:A'}}", "UF-1002", "for basic"),
        ("{ADDRESS, auth: {kind: bearer, secret: 'env:A', user: 'env:B'}}", "UF-1002", "for basic alone"),
        ("{ADDRESS, auth: {kind: query, secret: 'env:A'}}", "UF-1002", "for header and query"),
        ("{ADDRESS, increment: {field: a}}", "UF-1002", "key 'parameter' is missing"),
        ("{ADDRESS, increment: {field: a, parameter: b, overlap_seconds: 0}}", "UF-1002", "1 or more"),
        ("{ADDRESS, increment: {field: a, parameter: b, start: 2020-01-01}}", "UF-1002", "an instant with its offset"),
        ("{ADDRESS, paging: {kind: offset}, parameters: {offset: '1'}}", "UF-1002", "'offset' would be sent twice"),
        ("{ADDRESS, limits: {pages: 0}}", "UF-1002", "above 0"),
        ("{ADDRESS, limits: {seconds: .nan}}", "UF-1002", "above 0"),
        ("[1]", "UF-1002", "a mapping of keys"),
    ],
)
def test_wrong_options_of_rest(options: str, code: str, words: str):
    error = refused(f"{REST}options: {options.replace('ADDRESS', ADDRESS)}\n")
    assert error.code == code
    assert words in str(error)
    assert "f.yaml:9" in str(error)
    assert "hunter2" not in str(error)


JDBC = MINIMAL.replace("format: csv", "format: jdbc").replace("*.csv", "*.parquet")
SQLITE = "url: 'jdbc:sqlite:/data/cis.db'"


def test_options_of_jdbc():
    given = """options:
  url: jdbc:sqlserver://db.example.org:1433
  query: "SELECT a, ';' AS b FROM dbo.t"
  user: env:CIS_USER
  password: file:/run/secrets/cis
  increment: {column: seq, kind: number, overlap_numbers: 0, start: 17}
  properties: {databaseName: cis, encrypt: "true"}
"""
    feed = parse_feed(JDBC + given, "f")
    assert (feed.file_format, feed.extract.kind, feed.extract.increment.start) == ("parquet", "sqlserver", "17")
    assert feed.extract.secrets == ("env:CIS_USER", "file:/run/secrets/cis")


def test_a_url_of_jdbc_may_be_a_reference(monkeypatch: pytest.MonkeyPatch):
    given = "options: {url: 'env:CIS_URL', table: t, password: 'env:CIS_PASSWORD', properties: {sslmode: require}}\n"
    monkeypatch.delenv("CIS_URL", raising=False)
    source = parse_feed(JDBC + given, "f").extract
    assert (source.configured, source.shown) == (False, "env:CIS_URL t")
    assert source.secrets == ("env:CIS_URL", "env:CIS_PASSWORD")
    monkeypatch.setenv("CIS_URL", "jdbc:postgresql://db/cis")
    assert source.configured
    assert (source.resolved().url, source.resolved().kind) == ("jdbc:postgresql://db/cis", "postgresql")
    for url, words in (("jdbc:sqlite:/data/cis.db", "takes the property 'sslmode'"), ("db/hunter2", "begin with one of")):
        monkeypatch.setenv("CIS_URL", url)
        with pytest.raises(UtilityFlowError, match=words) as caught:
            source.resolved()
        assert caught.value.code == "UF-1010"
        assert "hunter2" not in str(caught.value)
    plain = parse_feed(JDBC + f"options: {{{SQLITE}, table: t}}\n", "f").extract
    assert plain.configured and plain.resolved() == plain


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("{table: t}", "UF-1002", "key 'url' is missing"),
        ("{SQLITE}", "UF-1002", "one of 'options.table' and 'options.query'"),
        ("{SQLITE, table: t, query: select 1}", "UF-1002", "one of 'options.table' and 'options.query'"),
        ("{SQLITE, tabel: t}", "UF-1001", "did you mean 'table'"),
        ("{SQLITE, table: 't; drop table t'}", "UF-1002", "schema.table"),
        ("{SQLITE, table: 't\"x'}", "UF-1002", "schema.table"),
        ("{SQLITE, query: drop table t}", "UF-1002", "one SELECT"),
        ("{SQLITE, query: select 1; drop table t}", "UF-1002", "without a semicolon"),
        ("{SQLITE, table: t, password: hunter2}", "UF-1002", "env:NAME or file:PATH"),
        ("{url: 'env:', table: t}", "UF-1002", "env:NAME or file:PATH"),
        ("{url: 'env:CIS_URL', table: t, properties: {enable_load_extension: 'true'}}", "UF-1001", "a feed may not set"),
        ("{SQLITE, table: t, properties: {enable_load_extension: 'true'}}", "UF-1001", "a feed may not set"),
        ("{SQLITE, table: t, increment: {column: 'a b'}}", "UF-1002", "letters, digits"),
        ("{SQLITE, table: t, increment: {column: a, kind: number, overlap_seconds: 5}}", "UF-1002", "left out for kind number"),
        ("{SQLITE, table: t, increment: {column: a, overlap_numbers: 5}}", "UF-1002", "left out for kind time"),
        ("{SQLITE, table: t, increment: {column: a, start: yesterday}}", "UF-1002", "an instant with its offset"),
        ("{SQLITE, table: t, increment: {column: a, kind: number, start: -1}}", "UF-1002", "a whole number"),
        ("{SQLITE, table: t, limits: {records: 0}}", "UF-1002", "above 0"),
        ("{url: 'jdbc:h2:mem:x;INIT=RUNSCRIPT', table: t}", "UF-1002", "begin with one of"),
        ("{url: '/data/cis.db', table: t}", "UF-1002", "begin with one of"),
        ("{url: 'jdbc:sqlite:/data/cis.db?hunter2', table: t}", "UF-1002", "the path of a file"),
        ("{url: 'jdbc:sqlite::memory:', table: t}", "UF-1002", "the path of a file"),
        ("{url: 'jdbc:postgresql://u:hunter2@h/d', table: t}", "UF-1002", "host, port and database"),
        ("{url: 'jdbc:postgresql://h/d?password=hunter2', table: t}", "UF-1002", "host, port and database"),
        ("{url: 'jdbc:sqlserver://h;password=hunter2', table: t}", "UF-1002", "host, port and database"),
    ],
)
def test_wrong_options_of_jdbc(options: str, code: str, words: str):
    error = refused(f"{JDBC}options: {options.replace('SQLITE', SQLITE)}\n")
    assert error.code == code
    assert words in str(error)
    assert "f.yaml:9" in str(error)
    assert "hunter2" not in str(error)


def test_the_landed_files_of_a_source_lie_in_one_folder():
    for path in ("*.jsonl", "a/*/b*.jsonl", "a/*.csv", "a/x*.jsonl", "a/**/c.jsonl"):
        text = REST.replace("cis_customers/*.jsonl", f"'{path}'") + f"options: {{{ADDRESS}}}\n"
        assert "a folder without patterns" in str(refused(text)), path
    parse_feed(REST.replace("/*.jsonl", "/cis_customers_*.jsonl") + f"options: {{{ADDRESS}}}\n", "f")


def test_an_extract_of_changes_is_no_snapshot():
    options = f"{{{ADDRESS}, increment: {{field: a, parameter: b}}}}"
    text = f"{REST}mode: snapshot\nsnapshot_time: to_date(_file_name)\noptions: {options}\n"
    assert "not the whole state" in str(refused(text))


def test_the_six_systems():
    assert "customer_management" in str(refused(MINIMAL.replace("customer_management", "customer_managment")))


def test_fixed_width_needs_a_layout():
    text = MINIMAL.replace("format: csv", "format: fixed_width")
    assert "options.fields" in str(refused(text))
    assert "[start from 1, length]" in str(refused(text + "options: {fields: {client_id: [0, 4]}}\n"))
    feed = parse_feed(text + "options: {fields: {client_id: [1, 10]}}\n", "f")
    assert feed.options.fields == {"client_id": (1, 10)}


XLSX, XML = (MINIMAL.replace("format: csv", f"format: {kind}") for kind in ("xlsx", "xml"))


def test_options_of_workbooks():
    options = parse_feed(XLSX, "f").options
    assert (options.sheet, options.header_rows, options.footnotes, options.formulas, options.merged) == (
        None, (1,), "none", "reject", "reject",
    )  # fmt: skip
    given = "{sheet: 2, header_rows: [1, 3], footnotes: blank_row, formulas: cached, merged: fill}"
    options = parse_feed(f"{XLSX}options: {given}\n", "f").options
    assert (options.sheet, options.header_rows) == (2, (1, 3))
    assert parse_feed(XLSX + "options: {sheet: '2016'}\n", "f").options.sheet == "2016"
    assert parse_feed(XLSX + "options: {names: [client_id]}\n", "f").options.header_rows == ()
    assert parse_feed(XLSX + "options: {names: [client_id], header_rows: [1]}\n", "f").options.header_rows == (1,)


def test_options_of_xml():
    options = parse_feed(XML + "options: {record: '/a/x:b', namespaces: {x: 'urn:x'}}\n", "f").options
    assert (options.record, options.namespaces, options.attribute_prefix) == ("/a/x:b", {"x": "urn:x"}, "")


@pytest.mark.parametrize(
    ("text", "options", "code", "words"),
    [
        (XLSX, "{sheets: x}", "UF-1001", "did you mean 'sheet'"),
        (XLSX, "{encoding: utf-8}", "UF-1001", "unknown option 'encoding' of format xlsx"),
        (XLSX, "{sheet: 0}", "UF-1002", "its place from 1"),
        (XLSX, "{sheet: ''}", "UF-1002", "the name of a sheet"),
        (XLSX, "{header_rows: []}", "UF-1002", "needs 'options.names'"),
        (XLSX, "{header_rows: [0, 1]}", "UF-1002", "rising row numbers from 1"),
        (XLSX, "{header_rows: [2, 1]}", "UF-1002", "rising row numbers"),
        (XLSX, "{header_rows: [1, 1]}", "UF-1002", "rising row numbers"),
        (XLSX, f"{{header_rows: {list(range(1, 22))}}}", "UF-1002", "at most 20"),
        (XLSX, "{header_rows: 1}", "UF-1002", "options.header_rows"),
        (XLSX, "{footnotes: singel_cell}", "UF-1002", "did you mean 'single_cell'"),
        (XLSX, "{formulas: cache}", "UF-1002", "did you mean 'cached'"),
        (XLSX, "{merged: filled}", "UF-1002", "did you mean 'fill'"),
        (XML, "{}", "UF-1002", "format xml needs 'options.record'"),
        (XML, "{recrd: a}", "UF-1001", "did you mean 'record'"),
        (XML, "{record: a//b}", "UF-1002", "entry/reading"),
        (XML, "{record: 'a[1]'}", "UF-1002", "entry/reading"),
        (XML, "{record: '*'}", "UF-1002", "entry/reading"),
        (XML, "{record: 'y:a', namespaces: {x: 'urn:x'}}", "UF-1002", "'y' is none"),
        (XML, "{record: a, attribute_prefix: '@'}", "UF-1002", "letters, digits"),
        (XML, "{record: a, header: true}", "UF-1001", "unknown option 'header' of format xml"),
    ],
)
def test_wrong_options_of_workbooks_and_xml(text: str, options: str, code: str, words: str):
    error = refused(f"{text}options: {options}\n")
    assert error.code == code
    assert words in str(error)
    assert "f.yaml:9" in str(error)


def test_control_totals_are_for_texts_with_a_trailer():
    for text in (XLSX, XML + "options: {record: a}\n"):
        assert "only csv and fixed_width" in str(refused(text + "control: {trailer_prefix: T, rows: _c1}\n"))


def test_the_definition_hash_is_of_the_content():
    feed = parse_feed(MINIMAL, "a.yaml")
    assert (
        feed.definition_hash() == parse_feed("# a comment\n" + MINIMAL + "mode: events\n", "b.yaml").definition_hash()
    )
    assert feed.definition_hash() != parse_feed(MINIMAL.replace("client_id", "id"), "a.yaml").definition_hash()


def test_formats_that_came_later_leave_the_hashes_of_older_ones_alone():
    """Homes keep them; another hash would make every known file a new one."""
    known = "eb750195b9952e6ff929de1f5bd68a0623ac812226f27c5cc842ae20063dbb9b"
    assert parse_feed(MINIMAL, "a.yaml").definition_hash() == known
    control = MINIMAL + "control: {trailer_prefix: TRL, rows: _c1}\n"
    known = "eef0d1eff99b0a2c175c0eab040695b34ef87543502100cfa5ccbc281bebeec4"
    assert parse_feed(control, "a.yaml").definition_hash() == known
    assert parse_feed(control.replace("{trailer", "{header_prefix: HDR, trailer"), "a.yaml").definition_hash() != known
    states = MINIMAL + "mode: snapshot\nsnapshot_time: to_date(_file_name)\n"
    plain, first = (parse_feed(states + more, "a.yaml") for more in ("", "duplicate_keys: first\n"))
    assert plain.definition_hash() == parse_feed(states + "duplicate_keys: keep\n", "a.yaml").definition_hash()
    assert first.definition_hash() != plain.definition_hash()
    one = parse_feed(XLSX + "options: {sheet: 1}\n", "f").definition_hash()
    assert one != parse_feed(XLSX + "options: {sheet: 2}\n", "f").definition_hash()


def test_a_folder_of_feeds(tmp_path: Path):
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "notes.txt").write_text("no feed")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yaml").write_text("no feed")
    assert list(load_feeds(tmp_path)) == ["cis_customers"]
    (tmp_path / "b.yaml").write_text(MINIMAL)
    with pytest.raises(UtilityFlowError, match="already defined in"):
        load_feeds(tmp_path)
    (tmp_path / "b.yaml").rename(tmp_path / "b.yml")
    with pytest.raises(UtilityFlowError, match=r"b.yml: would not be read .*end in .yaml"):
        load_feeds(tmp_path)
    with pytest.raises(UtilityFlowError, match="UF-1003"):
        load_feeds(tmp_path / "sub" / "none")
    with pytest.raises(UtilityFlowError, match="UF-1003"):
        load_feed(tmp_path / "none.yaml")


def test_the_shipped_feeds_and_examples_load(repository: Path):
    load_feeds()
    folders = sorted(p for p in (repository / "conf" / "feeds" / "examples").iterdir() if p.is_dir())
    assert {"steg", "lcl", "greenbutton", "nem12"} <= {p.name for p in folders}
    assert all(load_feeds(folder) for folder in folders)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (["Client ID", "Amount (USD)"], ["client_id", "amount_usd_"]),
        (["a", "A", "a "], ["a", "a_2", "a_"]),
        (["x", "x", "x", "x_2"], ["x", "x_2", "x_3", "x_2_2"]),
        (["", "__null_dask_index__", "Größe"], ["column_1", "_null_dask_index_", "gr_e"]),
        (["_file_name", "_row_number"], ["_file_name_2", "_row_number_2"]),
        (["_record", "__Record", "_metadata"], ["_record_2", "_record_3", "_metadata_2"]),
    ],
)
def test_names_are_cleaned(raw: list[str], cleaned: list[str]):
    assert clean_names(raw) == cleaned
