"""Feed expressions: the allow-list, try semantics on both lanes, time zones."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from utilityflow.bronze.expressions import in_zone, parse_expression, select_in_zone
from utilityflow.bronze.functions import FUNCTIONS
from utilityflow.errors import UtilityFlowError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("cast(x as int)", "try_cast(`x` AS INT)"),
        ("x::decimal(18, 6)", "try_cast(`x` AS DECIMAL(18, 6))"),
        ("date(x)", "try_cast(`x` AS DATE)"),
        ("a / b + 1", "try_add(try_divide(`a`, `b`), 1)"),
        ("to_timestamp(x, 'yyyy')", "try_to_timestamp(`x`, 'yyyy')"),
        ("date '2020-01-01'", "DATE '2020-01-01'"),
        ("Client_ID", "`client_id`"),
        ("`order`", "`order`"),
        ("2020_kwh", "`2020_kwh`"),
        ("'it''s'", "'it\\'s'"),
        ("x > 1", "(try_cast(`x` AS DOUBLE) > 1)"),
    ],
)
def test_expressions_are_rewritten(text: str, sql: str):
    assert parse_expression(text).sql == sql


def test_columns_read_are_raw_columns_alone():
    text = "case when a = 'x' then cast(b as date) else to_date(_file_name, 'yyyyMMdd') end"
    assert parse_expression(text).columns_read == {"a", "b"}
    assert parse_expression("year(date) + day(`month`)").columns_read == {"date", "month"}


@pytest.mark.parametrize(
    "text",
    [
        "rand()", "uuid()", "current_date", "current_timestamp()", "now()", "current_user", "localtimestamp",
        "session_user", "(select 1)", "exists(select 1)", "x in (select y)", "reflect('java.lang.System', 'exit')",
        "java_method('a', 'b')", "try_reflect('a', 'b')", "input_file_name()", "sum(x)", "count(*)", "count(distinct x)",
        "row_number() over (order by x)", "explode(x)", "monotonically_increasing_id()", "raise_error('x')",
        "assert_true(false)", "x; drop table y", "x -- comment", "x /* c */", "${spark.app.name}", "x.y", "transform(x, y -> y)",
        "version()", "current_catalog()", "from_json(x, 'a int')", "sequence(1, 1000000000)", "repeat(x, 1000000000)",
        "regexp_replace(a, b, '')", "a rlike b", "to_date(a, b)", "lpad(x, 1000000000, 'y')", "lpad(x, n, 'y')",
        "split_part(x, ',', 0)", "element_at(split(x, ','), 0)", "from_utc_timestamp(x, 'Mars/One')", "cast(x as array<int>)",
        "", "a b", "upper(", "case end", "1 +", "'open", "`open", "a is 5", "interval 3 miles", "x::blob", "from", "(" * 100,
    ],
)  # fmt: skip
def test_what_feeds_may_not_use_is_refused(text: str):
    with pytest.raises(UtilityFlowError) as caught:
        parse_expression(text, "feed.yaml:7: 'columns.a'")
    assert caught.value.code in ("UF-1011", "UF-1002")
    assert "feed.yaml:7: 'columns.a'" in str(caught.value)


NULL_EXPRESSIONS = [
    "cast('1.5' as int)", "cast('99999999999' as int)", "int('x')", "cast('31/02/2020' as date)",
    "to_date('31/02/2020', 'dd/MM/yyyy')", "to_date('garbage')", "to_timestamp('garbage')",
    "to_timestamp('2020-13-01', 'yyyy-MM-dd')", "1 / 0", "1 % 0", "5 div 0", "mod(1, 0)", "to_number('abc', '999')",
    "cast('1e400' as decimal(18,6))", "cast('9223372036854775807' as bigint) + 1", "cast('x' as boolean)",
    "make_date(2020, 2, 31)", "add_months(date '2020-01-01', 2000000000)", "date_add(date '2020-01-01', 2000000000)",
    "timestamp_seconds('99999999999999999999')", "timestamp_seconds('x')", "unix_timestamp('x', 'yyyy')",
    "next_day('2020-01-01', 'xx')", "split('a,b', ',')[7]", "date_format('x', 'yyyy')", "cast(bad as double) * 2",
    "bad::timestamp", "hour(bad)", "year(bad)", "-cast(bad as int)", "'abc' + 1", "cast('' as int)",
]  # fmt: skip


@pytest.mark.engine
def test_bad_values_give_null_and_never_raise_whatever_the_session_is_later(spark: SparkSession):
    frame = spark.createDataFrame([("bad",)], "bad string")
    columns = {f"x{i}": parse_expression(text) for i, text in enumerate(NULL_EXPRESSIONS)}
    result = select_in_zone(spark, frame, columns, "Asia/Tokyo")
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    row = result.collect()[0].asDict()
    assert {NULL_EXPRESSIONS[int(k[1:])]: v for k, v in row.items() if k != "bad" and v is not None} == {}


@pytest.mark.engine
def test_good_values_survive(spark: SparkSession):
    frame = spark.createDataFrame([("7", "2.50", "it's", "2020-02-29")], "n string, d string, s string, t string")
    wanted = {
        "cast(n as int) * 3": 21,
        "cast(d as decimal(18,6)) / 2": 1.25,
        "concat('a''b', \"c\", s)": "a'bcit's",
        "trim(both '2' from n)": "7",
        "add_months(cast(t as date), -cast(n as int))": dt.date(2019, 7, 29),
        "d > 2 and n in (7, 8)": True,
        "cast(concat('37000', 'e', '-3') as decimal(18,6))": 37,
        "split('a,b', ',')[1]": "b",
        "regexp_extract(s, '(\\\\w+)', 1)": "it",
        "extract(year from cast(t as date)) - 1": 2019,
        "timestampdiff(month, t, '2021-02-28')": 11,
        "coalesce(nullif(n, '7'), left(s, 2))": "it",
    }
    columns = {f"x{i}": parse_expression(text) for i, text in enumerate(wanted)}
    row = select_in_zone(spark, frame, columns, "UTC").collect()[0]
    found = {text: row[f"x{i}"] for i, text in enumerate(wanted)}
    assert {text: float(v) if isinstance(wanted[text], float) else v for text, v in found.items()} == wanted


@pytest.mark.engine
def test_every_allowed_function_is_one_of_the_engine(spark: SparkSession):
    grammar = {"if", "like", "ilike", "rlike", "position", "overlay", "trim", "extract", "timestampdiff", "date_diff"}
    known = {r[0] for r in spark.sql("SHOW FUNCTIONS").collect()}
    assert FUNCTIONS - known - grammar == set()


@pytest.mark.engine
def test_local_stamps_are_read_in_the_feeds_zone_on_days_of_23_and_25_hours(spark: SparkSession):
    frame = spark.createDataFrame([(1,)], "id int")
    texts = {
        "winter": "2011-01-01 00:00:00",
        "gap": "2011-03-13 02:30:00",  # does not exist: moved on by the hour that is missing
        "before": "2011-03-13 01:59:59",
        "after": "2011-03-13 03:00:00",
        "overlap": "2011-11-06 01:30:00",  # twice: the first one
        "offset": "2011-11-06 01:30:00-08:00",
    }
    columns = {n: parse_expression(f"to_timestamp('{t}')") for n, t in texts.items()}
    columns |= {f"{n}_cast": parse_expression(f"cast('{t}' as timestamp)") for n, t in texts.items()}
    columns["literal"] = parse_expression("timestamp '2011-01-01 00:00:00'")
    columns["day"] = parse_expression("cast(timestamp_seconds('1299996000') as date)")  # 2011-03-13 06:00 UTC
    frame = select_in_zone(spark, frame, columns, "America/Los_Angeles")
    row = frame.selectExpr(*[f"cast({n} as string) {n}" for n in columns]).collect()[0].asDict()
    utc = {
        "winter": "2011-01-01 08:00:00", "gap": "2011-03-13 10:30:00", "before": "2011-03-13 09:59:59",
        "after": "2011-03-13 10:00:00", "overlap": "2011-11-06 08:30:00", "offset": "2011-11-06 09:30:00",
    }  # fmt: skip
    expected = utc | {f"{n}_cast": t for n, t in utc.items()}
    assert row == expected | {"literal": "2011-01-01 08:00:00", "day": "2011-03-12"}


def test_over_spark_connect_another_zone_is_refused():
    """There the session's zone when the rows are computed counts: seen as stamps that were hours off."""

    class _Conf(dict):  # type: ignore[type-arg]
        set = dict.__setitem__

    client = type("SparkSession", (), {"__module__": "pyspark.sql.connect.session"})()
    client.conf = _Conf({"spark.sql.session.timeZone": "UTC", "spark.sql.ansi.enabled": "true"})
    with pytest.raises(UtilityFlowError, match="not in America/New_York") as refused, in_zone(client, "America/New_York"):
        pass
    assert refused.value.code == "UF-1002"
    with in_zone(client, "UTC"):
        assert client.conf["spark.sql.ansi.enabled"] == "false"
    assert client.conf["spark.sql.ansi.enabled"] == "true"
