"""Extracts of a database through Spark's reader: a SQLite file, and PostgreSQL where the machine has it."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.bronze.expressions import parse_expression
from utilityflow.bronze.feeds import Feed, parse_feed
from utilityflow.bronze.inspect import inspect_file
from utilityflow.errors import UtilityFlowError
from utilityflow.extract import jdbc as module
from utilityflow.extract.jdbc import extract_jdbc
from utilityflow.extract.landed import Extracted, Refused

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine

TEXT = """
feed: cis
system: customer_management
entity: customers
format: jdbc
path: cis/*.parquet
time_zone: America/New_York
columns: {customer_id: id, customer_name: name}
event: {effective_at: to_timestamp(changed_at), operation: case op when 'D' then 'delete' else 'upsert' end}
options:
"""
NOW = dt.datetime(2025, 6, 1, tzinfo=dt.timezone.utc)
TABLE = "CREATE TABLE account (id INTEGER, name TEXT, balance NUMERIC, rate REAL, changed_at TEXT, op TEXT, seq INTEGER)"
ROWS: list[tuple[Any, ...]] = [
    (1, "Ada", "1234.50", 0.1, "2025-03-01 08:00:00", "I", 1),
    (2, "", None, 0.30000000000000004, "2025-03-02T09:30:00.123456-05:00", "I", 2),
    (3, None, 7, None, "2025-03-03 10:00:00", "D", 3),
]
# the first row comes, then the connection is lost; the driver's words may quote what they like
BREAKS = "CASE WHEN id = '2' THEN cast(raise_error('Communications link failure s3cret') as boolean) ELSE true END"
SINCE = "  increment: {column: changed_at, overlap_seconds: 3600}\n"
NUMBERS = "  increment: {column: seq, kind: number, overlap_numbers: 2}\n"


@dataclass
class World:
    """A database file, a landing root, and what was said."""

    spark: SparkSession
    folder: Path
    said: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    now: dt.datetime = NOW

    @property
    def landing(self) -> Path:
        return self.folder / "landing"

    def sql(self, text: str, rows: list[tuple[Any, ...]] | None = None) -> None:
        with sqlite3.connect(self.folder / "cis.db") as base:
            base.executemany(text, rows) if rows is not None else base.execute(text)

    def feed(self, options: str) -> Feed:
        more = "" if "url:" in options else f"  url: jdbc:sqlite:{self.folder / 'cis.db'}\n"
        source = "" if "query:" in options or "table:" in options else "  table: account\n"
        return parse_feed(TEXT + more + source + options, "cis.yaml")

    def extract(self, options: str = SINCE, refused: Refused | None = None) -> Extracted:
        now, self.now = self.now, self.now + dt.timedelta(seconds=1)  # of two whole states the later one counts
        return extract_jdbc(self.spark, self.feed(options), self.landing, refused or Refused(), self.said.append,
                            self.folder / "stage", now=now, sleep=self.waits.append)  # fmt: skip

    def files(self) -> list[str]:
        return sorted(p.name for p in (self.landing / "cis").iterdir())

    def landed(self) -> list[dict[str, str | None]]:
        """Rows of all landed files, by id and seq."""
        import pyarrow.parquet as pq

        rows = [row for p in (self.landing / "cis").glob("*.parquet") for row in pq.read_table(p).to_pylist()]
        return sorted(rows, key=lambda r: (r["id"], r["seq"]))


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> World:
    made = World(spark, tmp_path)
    made.landing.mkdir()
    made.sql(TABLE)
    made.sql("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?)", ROWS)
    return made


def refused(world: World, options: str = SINCE) -> UtilityFlowError:
    with pytest.raises(UtilityFlowError) as caught:
        world.extract(options)
    assert world.files() == []
    return caught.value


def test_values_land_as_exact_texts_and_bronze_takes_the_file(world: World) -> None:
    done = world.extract()
    assert done.records == 3
    assert world.landed() == [
        {"id": "1", "name": "Ada", "balance": "1234.5", "rate": "0.1",
         "changed_at": "2025-03-01 08:00:00", "op": "I", "seq": "1"},
        {"id": "2", "name": "", "balance": None, "rate": "0.30000000000000004",
         "changed_at": "2025-03-02T09:30:00.123456-05:00", "op": "I", "seq": "2"},
        {"id": "3", "name": None, "balance": "7", "rate": None, "changed_at": "2025-03-03 10:00:00", "op": "D", "seq": "3"},
    ]  # fmt: skip
    # the last change was at ten in New York
    assert world.files()[0].startswith("cis_start_20250303T150000000000Z_")
    seen = inspect_file(world.feed(SINCE), world.landing / str(done.file), world.landing)
    assert (seen.reason, seen.records, seen.kind) == (None, 3, "parquet")


def test_changes_by_time_with_an_overlap(world: World) -> None:
    world.extract()
    assert world.extract().told == "nothing has changed"
    insert = "INSERT INTO account (id, name, changed_at, op, seq) VALUES (?, ?, ?, ?, ?)"
    late, older = (4, "late", "2025-03-03 09:30:00", "I", 4), (5, "too late", "2025-03-03 08:00:00", "I", 5)
    world.sql(insert, [late, older, (6, "new", "2025-03-04 00:00:00", "I", 6), (7, "no time", None, "I", 7)])
    assert world.extract().records == 3
    assert [r["id"] for r in world.landed()] == ["1", "2", "3", "4", "6", "7"]  # 5 is older than the overlap
    # a file that is removed is asked for again
    first = next(f for f in world.files() if "_start_" in f)
    (world.landing / "cis" / first).unlink()
    assert world.extract().records == 4
    assert [r["id"] for r in world.landed()] == ["1", "2", "3", "4", "5", "6", "7"]
    assert world.extract().file is None
    # one that bronze rejected, too
    again = next(f for f in world.files() if "_start_" in f)
    assert world.extract(refused=Refused({f"cis/{again}"}, {"?"})).records == 4


def test_rows_without_a_time_land_once_however_far_the_others_go_on(world: World) -> None:
    insert = "INSERT INTO account (id, name, changed_at, op, seq) VALUES (?, ?, ?, ?, ?)"
    world.sql(insert, [(7, "no time", None, "I", 7), (8, "no such time", "soon", "I", 8)])
    assert world.extract().records == 5
    for day in (10, 20):  # each a file of its own: the first one falls behind the overlap
        world.sql(insert, [(day, "new", f"2025-03-{day} 00:00:00", "I", day)])
        assert world.extract().records == 1
    world.sql(insert, [(9, "no time either", None, "I", 9)])
    assert world.extract().records == 1
    world.sql("UPDATE account SET name = 'other' WHERE id = 7")  # another state of the row, which its mark cannot tell
    assert world.extract().records == 1
    assert world.extract().file is None
    assert sorted(int(str(r["id"])) for r in world.landed()) == [1, 2, 3, 7, 7, 8, 9, 10, 20]


def test_a_change_table_by_sequence_number(world: World) -> None:
    assert world.extract(NUMBERS).file is not None
    assert world.files()[0].startswith("cis_start_n00000000000000000003_")
    world.sql("INSERT INTO account (id, op, seq) VALUES (?, ?, ?)", [(1, "D", 6), (9, "I", 5)])
    assert world.extract(NUMBERS).records == 2
    world.sql("INSERT INTO account (id, op, seq) VALUES (?, ?, ?)", [(8, "I", 4)])  # committed after 5 and 6
    assert world.extract(NUMBERS).records == 1
    assert [r["seq"] for r in sorted(world.landed(), key=lambda r: str(r["seq"]))] == ["1", "2", "3", "4", "5", "6"]
    assert world.extract(NUMBERS).file is None


def test_the_whole_state_lands_when_it_differs(world: World) -> None:
    query = '  query: "SELECT id, name, op, changed_at, seq FROM account WHERE id < 100"\n'
    assert world.extract(query).records == 3
    assert world.files()[0].startswith("cis_full_20250601T000000000000Z_")
    assert world.extract(query).file is None
    world.sql("DELETE FROM account WHERE id = 3")
    assert world.extract(query).records == 2
    assert len(world.files()) == 2


def test_the_time_of_a_snapshot_is_in_its_name(world: World, repository: Path) -> None:
    docs = (repository / "docs" / "feeds.md").read_text("utf-8")
    (told,) = (line.partition(": ")[2] for line in docs.splitlines() if line.startswith("    snapshot_time: to_timestamp(regexp"))
    query = '  query: "SELECT id, name, op, changed_at, seq FROM account"\n'
    text = TEXT.replace("columns:", f"mode: snapshot\nsnapshot_time: {told}\ncolumns:")
    feed = parse_feed(f"{text}  url: jdbc:sqlite:{world.folder / 'cis.db'}\n{query}", "f")
    done = extract_jdbc(world.spark, feed, world.landing, Refused(), world.said.append, world.folder / "stage", now=NOW)
    sql = parse_expression(told, "docs").sql
    (at,) = world.spark.sql(f"SELECT unix_seconds({sql}) FROM (SELECT '{done.file}' AS _file_name)").first() or (None,)
    assert at == NOW.timestamp()


def test_another_schema_is_told_before_anything_lands(world: World) -> None:
    world.sql("ALTER TABLE account RENAME COLUMN name TO full_name")
    error = refused(world)
    assert error.code == "UF-2013"
    assert "cis: jdbc:sqlite:" in str(error)
    assert "no column 'name', which 'customer_name' reads" in str(error)
    other = SINCE.replace("changed_at", "updated") + "  query: SELECT 1 AS name, * FROM account\n"
    assert "no column 'updated', which 'increment' reads" in str(refused(world, other))
    assert "the table" in str(refused(world, SINCE + "  table: accounts\n"))
    assert "does not understand" in str(refused(world, SINCE + "  query: SELECT FROM WHERE\n"))


def test_a_file_that_is_not_there_is_not_made(world: World) -> None:
    error = refused(world, f"{SINCE}  url: jdbc:sqlite:{world.folder / 'other.db'}\n")
    assert error.code == "UF-2012"
    assert not (world.folder / "other.db").exists()


def test_bounds(world: World) -> None:
    error = refused(world, SINCE + "  limits: {records: 2}\n")
    assert (error.code, "more than 2 rows" in str(error)) == ("UF-2014", True)


def test_a_connection_that_breaks_is_asked_again_without_gap_or_duplicate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, calls = module.Database.frame, []

    def frame(self: module.Database, *asked: Any) -> Any:
        calls.append(asked)
        found = usual(self, *asked)  # the first call asks for the columns
        return found.where(BREAKS) if len(calls) in (2, 3) else found

    monkeypatch.setattr(module.Database, "frame", frame)
    assert world.extract().records == 3
    assert [r["id"] for r in world.landed()] == ["1", "2", "3"]
    assert len(world.waits) == 2
    assert "attempt 3 of 4" in world.said[-1]
    # and one that goes on breaking is given up in words of ours
    monkeypatch.setattr(module.Database, "frame", lambda self, *asked: usual(self, *asked).where(BREAKS))
    with pytest.raises(UtilityFlowError, match="breaks, 4 times") as caught:
        world.extract(SINCE.replace("3600", "36000000"))
    assert caught.value.code == "UF-2012"
    assert "s3cret" not in str(caught.value) + "".join(world.said)


@pytest.mark.parametrize("landed", [False, True])
def test_an_extract_that_ends_at_its_rename_is_done_again_without_gap_or_duplicate(
    world: World, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    usual = module.rename

    def cut(*arguments: Any) -> None:
        if landed:
            usual(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "rename", cut)
    with pytest.raises(KeyboardInterrupt):
        world.extract()
    monkeypatch.setattr(module, "rename", usual)
    assert world.extract().records == (0 if landed else 3)
    assert [r["id"] for r in world.landed()] == ["1", "2", "3"]
    assert len(world.files()) == 1


def test_secrets_come_from_outside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SINCE + "  password: env:CIS_PASSWORD\n"
    monkeypatch.delenv("CIS_PASSWORD", raising=False)
    error = refused(world, options)
    assert (error.code, "CIS_PASSWORD" in str(error)) == ("UF-1010", True)
    monkeypatch.setenv("CIS_PASSWORD", "s3cret-word")
    database = module.Database(world.spark, world.feed(options), world.feed(options).extract, world.said.append)  # type: ignore[arg-type]
    plan = database.frame("(SELECT * FROM account) t")._jdf.queryExecution().toString()
    assert "s3cret" not in plan
    assert "s3cret" not in repr(world.feed(options))


def test_the_url_may_come_from_outside_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SINCE + "  url: env:CIS_URL\n"
    monkeypatch.delenv("CIS_URL", raising=False)
    error = refused(world, options)
    assert (error.code, "CIS_URL is not set" in str(error)) == ("UF-1010", True)
    monkeypatch.setenv("CIS_URL", "jdbc:postgresql://u:s3cret@h/d")
    error = refused(world, options)
    assert (error.code, "what env:CIS_URL stands for must hold host" in str(error)) == ("UF-1010", True)
    assert "s3cret" not in str(error)
    monkeypatch.setenv("CIS_URL", f"jdbc:sqlite:{world.folder / 'cis.db'}")
    assert world.extract(options).records == 3


# -- PostgreSQL: Debian's, started and stopped here ----------------------------------------------------------------------


def _postgres() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) if Path("/usr/lib/postgresql").is_dir() else []
    return found[-1].parent if found else None


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """Address of a new database cis with the user reader; skipped where PostgreSQL is not installed."""
    programs = _postgres()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here (Debian: apt-get install postgresql)")
    import socket
    import tempfile

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="uf-pg-", dir="/tmp"))
    who = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if who:
        shutil.chown(folder, "postgres", "postgres")
    data, log = folder / "data", folder / "log"
    secret = folder / "secret"
    secret.write_text("pg-s3cret")
    secret.chmod(0o644)
    make = [*who, programs / "initdb", "-D", data, "-U", "reader", "--pwfile", secret, "-A", "scram-sha-256", "-N"]
    subprocess.run(make, check=True, capture_output=True, timeout=120)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c timezone=Asia/Tokyo"
    subprocess.run([*who, programs / "pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start"],
                   check=True, timeout=120, stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        yield f"127.0.0.1:{port}"
    finally:
        stop = [*who, programs / "pg_ctl", "-D", data, "stop", "-m", "fast", "-w"]
        subprocess.run(stop, check=False, timeout=60, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def test_postgresql(world: World, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, port = postgres.partition(":")
    ask = ["psql", "-h", host, "-p", port, "-U", "reader", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-q", "-c"]
    env = {**os.environ, "PGPASSWORD": "pg-s3cret"}
    table = ("CREATE TABLE account (id bigint, name text, balance numeric, rate float8, ok boolean, at timestamp, "
             "changed_at timestamptz, op text, seq bigint)")  # fmt: skip
    rows = ("INSERT INTO account VALUES (1, 'Ada', 1234.50, 0.1, true, '2025-03-01 08:00:00.123456', "
            "'2025-03-01 08:00:00+00', 'I', 1), "
            "(2, '', 0.12345678901234567890, NULL, NULL, NULL, '2025-03-02 08:00:00.5+00', 'I', 2)")  # fmt: skip
    for text in (table, rows):
        subprocess.run([*ask, text], check=True, env=env, timeout=60)
    monkeypatch.setenv("CIS_USER", "reader")
    monkeypatch.setenv("CIS_PASSWORD", "pg-s3cret")
    options = f"{SINCE}  url: jdbc:postgresql://{postgres}/postgres\n  user: env:CIS_USER\n  password: env:CIS_PASSWORD\n"
    assert world.extract(options).records == 2
    first, second = world.landed()
    assert (first["balance"], first["rate"], first["ok"], first["at"]) == ("1234.50", "0.1", "true", "2025-03-01T08:00:00.123456")
    assert (second["name"], second["balance"], second["rate"]) == ("", "0.12345678901234567890", None)
    assert world.files()[0].startswith("cis_start_20250302T080000500000Z_")
    assert world.extract(options).file is None
    subprocess.run([*ask, "INSERT INTO account (id, op, seq, changed_at) VALUES (3, 'I', 3, '2025-03-02 07:30:00+00')"],
                   check=True, env=env, timeout=60)  # fmt: skip
    assert world.extract(options).records == 1
    monkeypatch.setenv("CIS_PASSWORD", "wrong-s3cret")
    with pytest.raises(UtilityFlowError, match="refuses the user") as caught:
        world.extract(options)
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("CIS_PASSWORD", "pg-s3cret")
    with pytest.raises(UtilityFlowError, match="the table"):
        world.extract(options + "  table: nothing\n")


MODES = {  # what follows the source, and what comes of one changed row and one new row afterwards
    "change time": (SINCE, 2),
    "change table": (NUMBERS, 2),
    "whole state": ("", 61),
}


def ended(ask: list[str], env: dict[str, str], view: str, times: int) -> subprocess.Popen[bytes]:
    """Ends the server's processes that have been reading a view for half a second: so many of them, and then no more."""
    reading = f"query LIKE '%{view}%' AND pid <> pg_backend_pid() AND clock_timestamp() - xact_start > interval '0.5 s'"
    loop = f"""DO $$ DECLARE gone int[] := '{{}}'; one int; BEGIN
        FOR i IN 1..1200 LOOP
            EXIT WHEN cardinality(gone) >= {times};
            PERFORM pg_stat_clear_snapshot();
            FOR one IN SELECT pid FROM pg_stat_activity WHERE {reading} AND pid <> ALL (gone) LOOP
                PERFORM pg_terminate_backend(one);
                gone := gone || one;
            END LOOP;
            PERFORM pg_sleep(0.05);
        END LOOP;
    END $$"""
    return subprocess.Popen([*ask, loop], env=env)


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_a_connection_that_the_server_ends_leaves_no_gap_and_no_double(
    world: World, postgres: str, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    host, _, port = postgres.partition(":")
    ask = ["psql", "-h", host, "-p", port, "-U", "reader", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-q", "-c"]
    env = {**os.environ, "PGPASSWORD": "pg-s3cret"}

    def sql(text: str) -> None:
        subprocess.run([*ask, text], check=True, env=env, timeout=60)

    sql("CREATE TABLE kept (id bigint, name text, changed_at timestamptz, op text, seq bigint)")
    stamp = "timestamptz '2025-03-01 08:00:00+00' + n * interval '1 hour'"
    sql(f"INSERT INTO kept SELECT n, 'name ' || n, {stamp}, 'I', n FROM generate_series(1, 60) n")
    sql("CREATE VIEW slow AS SELECT * FROM kept WHERE pg_sleep(0.05) IS NOT NULL OFFSET 0")  # 3 s in all, whatever is asked
    increment, later = MODES[mode]
    monkeypatch.setenv("CIS_USER", "reader")
    monkeypatch.setenv("CIS_PASSWORD", "pg-s3cret")
    options = (f"{increment}  url: jdbc:postgresql://{postgres}/postgres\n  user: env:CIS_USER\n"
               "  password: env:CIS_PASSWORD\n  table: slow\n  limits: {attempts: 2, fetch_size: 10}\n")  # fmt: skip

    killer = ended(ask, env, "slow", 2)  # both attempts
    with pytest.raises(UtilityFlowError, match="UF-2012.*the connection fails or breaks, 2 times") as caught:
        world.extract(options)
    assert "s3cret" not in str(caught.value) and world.files() == []
    assert killer.wait(10) == 0
    killer = ended(ask, env, "slow", 1)
    assert world.extract(options).records == 60
    assert killer.wait(10) == 0, "the connection was ended while it was read"
    assert world.said[-1].startswith("cis: the connection fails or breaks; attempt 2 of 2") and len(world.waits) == 2
    assert sorted(int(str(r["id"])) for r in world.landed()) == list(range(1, 61)) and len(world.files()) == 1

    sql("UPDATE kept SET name = 'other', changed_at = '2025-03-04 00:00:00+00', op = 'U', seq = 61 WHERE id = 7")
    sql("INSERT INTO kept VALUES (61, 'new', '2025-03-04 00:00:00+00', 'I', 62)")
    killer = ended(ask, env, "slow", 1)
    assert world.extract(options).records == later
    assert killer.wait(10) == 0 and len(world.files()) == 2 and len(world.waits) == 3
    newest = {r["id"]: r["name"] for r in sorted(world.landed(), key=lambda r: int(str(r["seq"])))}
    assert newest == {str(n): f"name {n}" for n in range(1, 61)} | {"7": "other", "61": "new"}
    assert world.extract(options).file is None, "nothing has changed"
