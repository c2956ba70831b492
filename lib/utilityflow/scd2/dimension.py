"""What the engine has to know of a dimension: its columns, which of them make history, and how time is cut."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pyspark.sql import Column
from pyspark.sql import functions as F

from utilityflow.errors import UtilityFlowError, nearest

Grain = Literal["day", "microsecond"]
Type1Policy = Literal["all", "current"]

UNKNOWN_KEY = -1  # surrogate key of the unknown member
UNKNOWN = "?"  # its natural key
BEGIN, END = "1900-01-01", "9999-12-31"  # of inferred and unknown members; END is the open end of every timeline


class ContractColumn(Protocol):
    """A column of a contract."""

    @property
    def name(self) -> str:
        """Its name."""
    @property
    def type(self) -> str:
        """Its Spark SQL type."""


class Contract(Protocol):
    """The part of a gold contract that the engine reads."""

    @property
    def table(self) -> str:
        """The table's name without its layer."""
    @property
    def columns(self) -> Sequence[ContractColumn]:
        """All columns, in table order."""
    def property(self, name: str, /) -> Any:
        """A custom property, or None."""


@dataclass(frozen=True)
class Dimension:
    """A dimension with history.

    :param name: part of every surrogate key's hash, so it must never change.
    :param columns: (name, Spark SQL type) of the whole table, in its order; names that begin with an underscore are
        provenance, taken from the event that made the version.
    :param key: the natural key; never null.
    :param type2: a change opens a new version. :param type1: the newest value stands in every version (policy ``all``)
        or in the version that it was said of (``current``: closed versions keep what they last had).
    :param untracked: kept as the version's first event had them; a change alone does nothing.
    :param grain: ``day``: DATE columns, one version per local day at most; ``microsecond``: TIMESTAMP columns.
    :param partial: events may carry a column ``provided`` (array of attribute names, or a text with commas between them);
        what it does not list keeps its old value. Null means that all are provided.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    surrogate_key: str
    type2: tuple[str, ...]
    type1: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    type1_policy: Type1Policy = "all"
    grain: Grain = "day"
    valid_from: str = "effective_date"
    valid_to: str = "expiry_date"
    current: str = "is_current"
    inferred: str = "is_inferred"
    partial: bool = False

    def __post_init__(self) -> None:
        names = [name for name, _ in self.columns]
        roles = [*self.key, *self.attributes, self.surrogate_key, *self.control]
        for name in roles:
            if name not in names:
                message = f"{self.name}: scd2 names column '{name}', which the contract does not have"
                raise UtilityFlowError("UF-3001", message, hint=nearest(name, names))
            if roles.count(name) > 1:
                raise UtilityFlowError("UF-3001", f"{self.name}: scd2 gives column '{name}' two roles")
        for name in names:
            if name not in roles and not name.startswith("_"):
                raise UtilityFlowError("UF-3001", f"{self.name}: scd2 gives column '{name}' no role")
        if not self.key:
            raise UtilityFlowError("UF-3001", f"{self.name}: scd2 needs at least one key column")

    @property
    def attributes(self) -> tuple[str, ...]:
        """All columns that events bring apart from the key."""
        return (*self.type2, *self.type1, *self.untracked)

    @property
    def control(self) -> tuple[str, ...]:
        """The columns that the engine fills: from, to, current, inferred."""
        return (self.valid_from, self.valid_to, self.current, self.inferred)

    @property
    def provenance(self) -> tuple[str, ...]:
        """Columns that say which event made the version; no part of the table's content."""
        return tuple(name for name, _ in self.columns if name.startswith("_"))

    @property
    def names(self) -> tuple[str, ...]:
        """All columns in table order."""
        return tuple(name for name, _ in self.columns)

    @property
    def types(self) -> dict[str, str]:
        """Spark SQL type by column, with bounded strings as plain ones (Spark's cast knows no VARCHAR)."""
        return {name: re.sub(r"(?i)\b(var)?char\s*\(\s*\d+\s*\)", "string", kind) for name, kind in self.columns}

    def bound(self, text: str) -> Column:
        """BEGIN or END as a value of the time columns; the microsecond grain takes the UTC midnight."""
        day = F.lit(text).cast("date")
        return day if self.grain == "day" else F.timestamp_seconds(F.unix_date(day).cast("bigint") * F.lit(86_400))

    @classmethod
    def from_contract(cls, contract: Contract) -> Dimension:
        """The dimension that a gold contract's custom property ``scd2`` declares.

        Keys of the property: key, surrogateKey, type2 (required), type1, untracked, type1Policy, grain, effectiveFrom,
        effectiveTo, current, inferred, partial. Columns that no list names are type 1.

        :raises UtilityFlowError: UF-3001 when the property is missing or does not fit the columns.
        """
        given = contract.property("scd2")
        if not isinstance(given, Mapping):
            raise UtilityFlowError("UF-3001", f"{contract.table}: the contract has no custom property 'scd2'")
        for key in given:
            if key not in _KEYS:
                message = f"{contract.table}: scd2 has the unknown key '{key}'"
                raise UtilityFlowError("UF-3001", message, hint=nearest(key, _KEYS))
        values: dict[str, Any] = {}
        for key, (field, kind, allowed) in _KEYS.items():
            if key in given:
                values[field] = _value(contract.table, key, given[key], kind, allowed)
            elif key in _REQUIRED:
                raise UtilityFlowError("UF-3001", f"{contract.table}: scd2 lacks the key '{key}'")
        columns = tuple((column.name, column.type) for column in contract.columns)
        listed = {name for value in values.values() if isinstance(value, tuple) for name in value}
        listed |= {values.get(field, getattr(cls, field, None)) for field in _CONTROL_FIELDS}
        rest = tuple(name for name, _ in columns if name not in listed and not name.startswith("_"))
        return cls(**{**values, "name": contract.table, "columns": columns, "type1": (*values.get("type1", ()), *rest)})


_REQUIRED = ("key", "surrogateKey", "type2")
_CONTROL_FIELDS = ("surrogate_key", "valid_from", "valid_to", "current", "inferred")
_KEYS: dict[str, tuple[str, type, tuple[str, ...]]] = {
    "key": ("key", tuple, ()),
    "surrogateKey": ("surrogate_key", str, ()),
    "type2": ("type2", tuple, ()),
    "type1": ("type1", tuple, ()),
    "untracked": ("untracked", tuple, ()),
    "type1Policy": ("type1_policy", str, ("all", "current")),
    "grain": ("grain", str, ("day", "microsecond")),
    "effectiveFrom": ("valid_from", str, ()),
    "effectiveTo": ("valid_to", str, ()),
    "current": ("current", str, ()),
    "inferred": ("inferred", str, ()),
    "partial": ("partial", bool, ()),
}


def _value(table: str, key: str, value: Any, kind: type, allowed: tuple[str, ...]) -> Any:
    if kind is tuple:
        if isinstance(value, str) or not all(isinstance(item, str) for item in value):
            raise UtilityFlowError("UF-3001", f"{table}: scd2.{key} must be a list of columns")
        return tuple(value)
    if not isinstance(value, kind):
        raise UtilityFlowError("UF-3001", f"{table}: scd2.{key} must be a {'text' if kind is str else 'true or false'}")
    if allowed and value not in allowed:
        raise UtilityFlowError("UF-3001", f"{table}: scd2.{key} must be one of {', '.join(allowed)}, not '{value}'")
    return value
