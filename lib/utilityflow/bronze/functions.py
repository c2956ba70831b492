"""The allow-list of feed expressions.

Deterministic scalar functions that both engine lanes have and that never raise on data (raw texts). What reads a clock,
the session, files or other rows, what generates or aggregates, and what can fail or explode on a value is not here.

``LITERAL`` names the arguments (from 0) that must be written out: a pattern, format or zone that came from the data
could stop a whole file. ``REWRITES`` turns functions that fail loudly into forms that give null.
"""

from __future__ import annotations

from collections.abc import Callable


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# keywords and type names that a cast may name
TYPES = frozenset(
    _words(
        "tinyint byte smallint short int integer bigint long float real double decimal dec numeric date timestamp"
        " boolean string"
    )
)
# functions named like a type: int(x) is cast(x as int)
TYPE_FUNCTIONS = frozenset(_words("tinyint smallint int bigint float double decimal date timestamp boolean string"))

UNITS = frozenset(
    _words(
        "year quarter month week day dayofweek dow doy hour minute second years months weeks days hours minutes seconds"
        " millisecond milliseconds microsecond microseconds"
    )
)

GROUPS: dict[str, tuple[str, ...]] = {
    "text": _words(
        "ascii bit_length btrim char char_length character_length chr concat concat_ws contains elt endswith"
        " find_in_set initcap instr lcase left length levenshtein locate lower lpad ltrim octet_length overlay"
        " position replace reverse right rpad rtrim soundex split split_part startswith substr substring"
        " substring_index translate trim ucase upper"
    ),
    "pattern": _words("like ilike regexp_count regexp_extract regexp_instr regexp_like regexp_replace rlike"),
    "date and time": _words(
        "add_months date_add date_diff date_format date_from_unix_date date_part date_sub date_trunc datediff day"
        " dayofmonth dayofweek dayofyear extract from_unixtime from_utc_timestamp hour last_day make_date"
        " make_timestamp minute month months_between next_day quarter second timestamp_micros timestamp_millis"
        " timestamp_seconds timestampdiff to_date to_timestamp to_unix_timestamp to_utc_timestamp trunc"
        " try_to_timestamp unix_date unix_micros unix_millis unix_seconds unix_timestamp weekday weekofyear"
        " year"
    ),
    "number": _words(
        "abs acos asin atan atan2 bround cbrt ceil ceiling cos cot degrees exp floor greatest least ln log log10 log2"
        " mod negative pi pmod positive pow power radians rint round sign signum sin sqrt tan to_number try_add"
        " try_divide try_multiply try_subtract try_to_number"
    ),
    "choice": _words("coalesce equal_null if ifnull isnan isnotnull isnull nanvl nullif nvl nvl2"),
    "hash and encoding": _words("base64 bin conv crc32 hash hex md5 sha sha1 sha2 unbase64 unhex xxhash64"),
    "array": _words(
        "array array_contains array_distinct array_join array_max array_min array_position array_size cardinality"
        " element_at flatten get size sort_array"
    ),
    "json": ("get_json_object", "json_array_length"),
}
FUNCTIONS = frozenset(name for group in GROUPS.values() for name in group)

# argument positions that must be literals
LITERAL: dict[str, tuple[int, ...]] = {
    "date_format": (1,),
    "date_part": (0,),
    "date_trunc": (0,),
    "element_at": (1,),
    "from_unixtime": (1,),
    "from_utc_timestamp": (1,),
    "get_json_object": (1,),
    "ilike": (1,),
    "like": (1,),
    "lpad": (1,),
    "regexp_count": (1,),
    "regexp_extract": (1, 2),
    "regexp_instr": (1, 2),
    "regexp_like": (1,),
    "regexp_replace": (1, 2),
    "rlike": (1,),
    "rpad": (1,),
    "sha2": (1,),
    "split": (1, 2),
    "split_part": (2,),
    "to_date": (1,),
    "to_number": (1,),
    "to_timestamp": (1,),
    "to_unix_timestamp": (1,),
    "to_utc_timestamp": (1,),
    "trunc": (1,),
    "try_to_number": (1,),
    "try_to_timestamp": (1,),
    "unix_timestamp": (1,),
}
# literal arguments that may not be zero, nor above a bound: they would raise or fill the memory on every row
NOT_ZERO = {"element_at": 1, "split_part": 2}
AT_MOST = {"lpad": (1, 10_000), "rpad": (1, 10_000)}
# argument positions that hold a time zone
ZONES = {"from_utc_timestamp": 1, "to_utc_timestamp": 1}
# Spark reads these without parentheses as well
CLOCKS = frozenset(
    _words(
        "current_catalog current_database current_date current_schema current_time current_timestamp current_user"
        " localtimestamp now session_user"
    )
)

_SPAN = 120_000  # months; 10,000 years in days is 3,652,500


def _bounded(function: str, limit: int) -> Callable[[list[str]], str]:
    """A date shifted by a number from the data raises when it leaves the calendar: beyond ``limit`` it gives null."""

    def rewrite(args: list[str]) -> str:
        if len(args) != 2:
            return f"{function}({', '.join(args)})"
        shift = f"try_cast({args[1]} as int)"
        return f"if({shift} between -{limit} and {limit}, {function}({args[0]}, {shift}), null)"

    return rewrite


def _to_date(args: list[str]) -> str:
    inner = args[0] if len(args) == 1 else f"try_to_timestamp({', '.join(args)})"
    return f"try_cast({inner} as date)"


def _epoch(digits: str, factor: str) -> Callable[[list[str]], str]:
    """Epoch numbers: the engine's own functions raise on large values, a cast of a bounded decimal gives null."""

    def rewrite(args: list[str]) -> str:
        return f"try_cast(try_multiply(try_cast({', '.join(args)} as decimal({digits})), {factor}) as timestamp)"

    return rewrite


REWRITES: dict[str, Callable[[list[str]], str]] = {
    "add_months": _bounded("add_months", _SPAN),
    "date_add": _bounded("date_add", 3_652_500),
    "date_sub": _bounded("date_sub", 3_652_500),
    "date_from_unix_date": lambda args: f"date_from_unix_date(try_cast({', '.join(args)} as int))",
    "timestamp_seconds": _epoch("18,6", "1"),
    "timestamp_millis": _epoch("15,0", "0.001"),
    "timestamp_micros": _epoch("18,0", "0.000001"),
    "to_date": _to_date,
    "to_number": lambda args: f"try_to_number({', '.join(args)})",
    "to_timestamp": lambda args: f"try_to_timestamp({', '.join(args)})",
}
