"""Data contracts (Open Data Contract Standard v3.1): one YAML file per table under schemas/, defined once, used everywhere.

From a contract come the StructType, the Delta table (columns with comments, properties, statistics columns, layout), the
DuckDB table, the row rules and the data dictionary. Loading is strict: what the standard or this suite does not know is
an error that names file, line and key.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.resources import resource
from utilityflow.sqltypes import PHYSICAL, duckdb_type, spark_type, sql_text, struct_type
from utilityflow.strict import Node, build, load

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

__all__ = ["Catalog", "Column", "Contract", "Quality", "duckdb_type", "load_contracts", "parse_contract", "sql_text"]

LAYERS = ("bronze", "silver", "gold", "ops")
IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*\Z")

# custom properties that the suite knows, by what carries them
_TableProperty = Literal[
    "scd2",  # how the history engine keeps the dimension: key, surrogate key, grain, type-1 and type-2 columns
    "partitionBy",  # partition columns; the content hash and the publication follow them
    "statistics",  # columns that get file statistics (the few that are filtered or merged on)
    "deletionVectors",  # on for large tables that lose or change single rows
    "changeFeed",  # on where the next step reads changes
    "publish",  # whether the warehouse gets the table
    "idPrefixed",  # columns that carry a feed's id_prefix
    "identity",  # columns that say which records speak of the same thing (their values may differ)
    "history",  # the entity's rows are change events: effective_at, sequence, operation
    "template",  # the file describes a family of tables; {entity} stands for each member
    "parameters",  # of the definitions of a mart, by name
    "foreignKeys",  # column -> referenced table.column
]
_ColumnProperty = Literal[
    "allowedValues",  # the only values that the column may hold
    "addedIn",  # version of the contract that brought the column to a table that may have rows already
]
_RuleProperty = Literal[
    "action",  # what happens to a row that breaks the rule
    "flag",  # code that a flagged row carries
]
# table properties that list columns, or name some as their keys
_COLUMN_LISTS = ("partitionBy", "statistics", "idPrefixed", "identity", "foreignKeys")


def _camel(name: str, **more: Any) -> Any:
    """A dataclass field whose key in the file is not its Python name."""
    return field(metadata={"key": name}, **more)


@dataclass(frozen=True)
class _TableCustom:
    property: _TableProperty
    value: Any


@dataclass(frozen=True)
class _ColumnCustom:
    property: _ColumnProperty
    value: Any


@dataclass(frozen=True)
class _RuleCustom:
    property: _RuleProperty
    value: str


@dataclass(frozen=True)
class Quality:
    """One ``quality`` entry of ODCS: a rule whose expression holds for good rows (null: not applicable)."""

    id: str
    type: Literal["custom"]
    engine: Literal["utilityflow"]
    implementation: str
    dimension: Literal["accuracy", "completeness", "conformity", "consistency", "coverage", "timeliness", "uniqueness"]
    severity: Literal["error", "warn"]
    description: str
    custom: tuple[_RuleCustom, ...] = _camel("customProperties", default=())

    @property
    def action(self) -> str:
        """What happens to a row that breaks the rule."""
        default = "quarantine" if self.severity == "error" else "flag"
        return next((c.value for c in self.custom if c.property == "action"), default)

    @property
    def flag(self) -> str:
        """Code that a flagged row carries in ``quality_flags``."""
        return str(next((c.value for c in self.custom if c.property == "flag"), self.id))


@dataclass(frozen=True)
class Column:
    """One column: what it is called, what it means and what it may hold."""

    name: str
    description: str
    logical_type: str = _camel("logicalType")
    physical_type: str = _camel("physicalType")
    required: bool = False
    primary_key: bool = _camel("primaryKey", default=False)
    primary_key_position: int = _camel("primaryKeyPosition", default=-1)
    classification: Literal["public", "internal", "personal"] = "internal"
    options: dict[str, Any] = _camel("logicalTypeOptions", default_factory=dict)
    examples: tuple[Any, ...] = ()
    items: dict[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = _camel("transformSourceObjects", default=())
    logic: str = _camel("transformLogic", default="")
    custom: tuple[_ColumnCustom, ...] = _camel("customProperties", default=())

    @property
    def type(self) -> str:
        """The Spark SQL type, for example ``decimal(18,6)``."""
        return spark_type(self.physical_type)

    @property
    def length(self) -> int | None:
        """Longest text in characters, for VARCHAR columns."""
        found = re.fullmatch(r"VARCHAR\((\d+)\)", self.physical_type)
        return int(found.group(1)) if found else None

    @property
    def allowed(self) -> tuple[str, ...]:
        """Values that the column may hold; empty: any."""
        value = next((c.value for c in self.custom if c.property == "allowedValues"), ())
        return tuple(str(v) for v in value)

    @property
    def added(self) -> bool:
        """Whether the column came to the contract later, so that rows written before lack it."""
        return any(c.property == "addedIn" for c in self.custom)

    @property
    def private(self) -> bool:
        """Whether the column holds personal data."""
        return self.classification == "personal"


@dataclass(frozen=True)
class _Table:
    name: str
    description: str
    properties: tuple[Column, ...]
    physical_name: str = _camel("physicalName", default="")
    logical_type: str = _camel("logicalType", default="object")
    physical_type: str = _camel("physicalType", default="table")
    grain: str = _camel("dataGranularityDescription", default="")
    quality: tuple[Quality, ...] = ()
    custom: tuple[_TableCustom, ...] = _camel("customProperties", default=())


@dataclass(frozen=True)
class _Text:
    purpose: str = ""
    usage: str = ""
    limitations: str = ""


@dataclass(frozen=True)
class _File:
    kind: Literal["DataContract"]
    id: str
    version: str
    status: Literal["active", "draft", "deprecated"]
    schema: tuple[_Table, ...]
    api_version: Literal["v3.1.0"] = _camel("apiVersion")
    name: str = ""
    domain: str = ""
    description: _Text = field(default_factory=_Text)


@dataclass(frozen=True)
class Contract:
    """What is promised of one table."""

    layer: str
    table: str
    version: str
    description: str
    grain: str
    columns: tuple[Column, ...]
    rules: tuple[Quality, ...]
    properties: Mapping[str, Any]
    purpose: str = ""
    usage: str = ""

    @property
    def name(self) -> str:
        """``layer.table``."""
        return f"{self.layer}.{self.table}"

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in contract order."""
        return tuple(c.name for c in self.columns)

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Columns of the primary key in their order."""
        keys = [c for c in self.columns if c.primary_key]
        return tuple(c.name for c in sorted(keys, key=lambda c: c.primary_key_position))

    @property
    def hashed_columns(self) -> tuple[str, ...]:
        """Columns of the content hash: all but those that begin with an underscore (DESIGN.md section 4, 4)."""
        return tuple(n for n in self.column_names if not n.startswith("_"))

    @property
    def partition_by(self) -> tuple[str, ...]:
        """Partition columns."""
        return tuple(self.properties.get("partitionBy", ()))

    def property(self, name: str) -> Any:
        """A custom property of the table or None."""
        return self.properties.get(name)

    def column(self, name: str) -> Column:
        """The column of that name.

        :raises UtilityFlowError: UF-3001 naming the nearest.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise UtilityFlowError("UF-3001", f"{self.name} has no column '{name}'", hint=nearest(name, self.column_names))

    def struct(self) -> StructType:
        """The StructType: names, types, nullability and comments."""
        from pyspark.sql.types import StructType

        result = StructType()
        for column in self.columns:
            result.add(column.name, struct_type(column.type), not column.required, {"comment": column.description})
        return result

    def delta_properties(self) -> dict[str, str]:
        """Delta table properties: statistics columns, deletion vectors, change feed; nothing above Delta 3.2."""
        statistics = self.properties.get("statistics", ())
        return {
            "delta.dataSkippingStatsColumns": ",".join(statistics),
            "delta.enableDeletionVectors": str(bool(self.properties.get("deletionVectors", False))).lower(),
            "delta.enableChangeDataFeed": str(bool(self.properties.get("changeFeed", False))).lower(),
            "delta.checkpointInterval": "20",
            "utilityflow.contractVersion": self.version,
        }

    def delta_ddl(self, path: str) -> str:
        """``CREATE TABLE`` of an empty Delta table at ``path``."""
        columns = ",\n  ".join(
            f"{c.name} {c.type}{' NOT NULL' if c.required else ''} COMMENT {sql_text(c.description)}"
            for c in self.columns
        )
        partition = f"PARTITIONED BY ({', '.join(self.partition_by)})\n" if self.partition_by else ""
        pairs = ", ".join(f"'{k}' = '{v}'" for k, v in self.delta_properties().items() if v)
        return f"CREATE TABLE IF NOT EXISTS delta.`{path}` (\n  {columns}\n) USING delta\n{partition}TBLPROPERTIES ({pairs})"

    def duckdb_ddl(self, schema: str) -> str:
        """``CREATE TABLE`` for DuckDB; keys and references are no constraints there, publication checks them."""
        columns = ", ".join(
            f'"{c.name}" {duckdb_type(c.physical_type)}{" NOT NULL" if c.required else ""}' for c in self.columns
        )
        return f'CREATE TABLE "{schema}"."{self.table}" ({columns})'


class Catalog(Mapping[str, Contract]):
    """All contracts by ``layer.table``; families (``{entity}__quarantine``, bronze feeds) resolve by pattern."""

    def __init__(self, contracts: Mapping[str, Contract], families: Mapping[str, Contract]) -> None:
        self._contracts = dict(contracts)
        self._families = dict(families)

    def __getitem__(self, name: str) -> Contract:
        if name in self._contracts:
            return self._contracts[name]
        layer, _, table = name.partition(".")
        for family in self._families.values():
            head, tail = family.table.split("{entity}")
            if family.layer == layer and table.startswith(head) and table.endswith(tail) and IDENTIFIER.match(table):
                return replace(family, table=table)
        raise KeyError(name)

    def __iter__(self) -> Any:
        return iter(self._contracts)

    def __len__(self) -> int:
        return len(self._contracts)

    @property
    def families(self) -> Mapping[str, Contract]:
        """Contracts that describe many tables."""
        return self._families

    def of_layer(self, layer: str) -> list[Contract]:
        """Contracts of one layer in name order."""
        return [self._contracts[n] for n in sorted(self._contracts) if n.startswith(f"{layer}.")]

    def entities(self) -> list[str]:
        """Silver entities that feeds may fill."""
        return [c.table for c in self.of_layer("silver")]


@functools.cache
def load_contracts() -> Catalog:
    """The shipped contracts, read from schemas/ (checkout, wheel or zip).

    :raises UtilityFlowError: UF-3001 or UF-1001/UF-1002 naming file, line and key.
    """
    contracts: dict[str, Contract] = {}
    families: dict[str, Contract] = {}
    for layer in LAYERS:
        folder = resource("schemas", layer)
        if not folder.is_dir():
            continue
        for file in sorted(folder.iterdir(), key=lambda p: p.name):
            if not file.name.endswith(".yaml"):
                continue
            contract = parse_contract(file.read_text(encoding="utf-8"), f"schemas/{layer}/{file.name}", layer)
            (families if contract.property("template") else contracts)[contract.name] = contract
    return Catalog(contracts, families)


def parse_contract(text: str, source: str, layer: str) -> Contract:
    """One contract file to a Contract.

    :raises UtilityFlowError: UF-3001, UF-1001, UF-1002 or UF-1003 naming file, line and key.
    """
    node = load(text, source)
    file = build(_File, node)
    if len(file.schema) != 1:
        place = node.value["schema"].where
        raise UtilityFlowError("UF-3001", f"{place}: 'schema' describes one table, not {len(file.schema)}")
    table = file.schema[0]
    contract = Contract(layer, table.name, file.version, table.description, table.grain, table.properties, table.quality,
                        {c.property: c.value for c in table.custom}, file.description.purpose,
                        file.description.usage)  # fmt: skip
    _check(contract, node.value["schema"].value[0])
    return contract


def _check(contract: Contract, table: Node) -> None:
    """What types alone do not say.

    :param table: the node of the table in its file.
    :raises UtilityFlowError: UF-3001 naming file, line and key.
    """
    seen: set[str] = set()
    for column, place in zip(contract.columns, table.value["properties"].value, strict=True):
        _check_column(column, place, seen)
        seen.add(column.name)
    for place in table.value["customProperties"].value if "customProperties" in table.value else ():
        name, value = place.value["property"].value, place.value["value"]
        listed = value.value if name in _COLUMN_LISTS else ()
        if not isinstance(listed, list | dict | tuple):
            raise UtilityFlowError("UF-3001", f"{value.where}: '{name}' must list columns")
        for one in [n.value if isinstance(n, Node) else n for n in listed]:
            if one not in seen:
                problem = f"{value.where}: '{name}' names '{one}', which is no column"
                raise UtilityFlowError("UF-3001", problem, hint=nearest(str(one), seen))
    if contract.layer in ("gold", "silver") and not contract.grain:
        raise UtilityFlowError("UF-3001", f"{table.where}: key 'dataGranularityDescription' is missing")


def _check_column(column: Column, place: Node, before: Collection[str]) -> None:
    def wrong(key: str, problem: str, hint: str | None = None) -> UtilityFlowError:
        at = place.value.get(key, place).where
        return UtilityFlowError("UF-3001", f"{at}: column '{column.name}': '{key}' {problem}", hint=hint)

    if not IDENTIFIER.match(column.name) or column.name in before:
        raise wrong("name", "is not a plain lower-case name or stands twice")
    try:
        column.type  # noqa: B018 - the type must resolve
    except KeyError:
        problem = f"is {column.physical_type}, which is no type of the suite"
        raise wrong("physicalType", problem, nearest(column.physical_type, PHYSICAL)) from None
    if not column.description.strip():
        raise wrong("description", "is empty")
    if column.added and column.required:
        raise wrong("required", "does not go with addedIn: rows that were there before have no value")
