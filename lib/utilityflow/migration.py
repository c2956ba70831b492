"""How a live table is brought to what its contract has become, or why it cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from utilityflow.contracts import Contract, sql_text
from utilityflow.errors import UtilityFlowError

if TYPE_CHECKING:
    from pyspark.sql.types import StructField


def steps(contract: Contract, live: Mapping[str, StructField], path: str) -> list[tuple[str, str]]:
    """The statements, each with its words; empty when nothing differs.

    Added are columns that may be null; a column may become nullable; descriptions follow. The words of what only
    accompanies the others are empty.

    :param live: the table's columns by name.
    :raises UtilityFlowError: UF-3002 naming table and column for what would change or lose data: a column that the
        contract dropped or retyped, one that may no longer be null, a new one that is required.
    """
    _check(contract, {n: (f.dataType.simpleString(), f.nullable) for n, f in live.items()})
    found, place = [], "FIRST"
    for column in contract.columns:
        name, told = column.name, sql_text(column.description)
        if name not in live:
            what = f"ADD COLUMNS ({name} {column.type} COMMENT {told} {place})"
            found.append((f"add column {contract.name}.{name}", what))
        elif not column.required and not live[name].nullable:
            found.append((f"allow null in {contract.name}.{name}", f"ALTER COLUMN {name} DROP NOT NULL"))
        if name in live and sql_text(live[name].metadata.get("comment", "")) != told:
            found.append((f"describe {contract.name}.{name} anew", f"ALTER COLUMN {name} COMMENT {told}"))
        place = f"AFTER {name}"
    if found:
        pairs = ", ".join(f"'{k}' = '{v}'" for k, v in contract.delta_properties().items() if v)
        found.append(("", f"SET TBLPROPERTIES ({pairs})"))
    return [(words, f"ALTER TABLE delta.`{path}` {what}") for words, what in found]


def _check(contract: Contract, live: Mapping[str, tuple[str, bool]]) -> None:
    """Refuse what cannot be migrated; ``live``: column -> (type, whether it may be null)."""
    table, wanted = contract.name, {c.name: c for c in contract.columns}
    for name, (kind, nullable) in live.items():
        if name not in wanted:
            if contract.layer != "bronze":  # there the raw columns follow those of the contract
                message = f"{table}: column {name} is in the table but not in its contract"
                raise UtilityFlowError("UF-3002", message, hint="a column is never dropped; put it back")
        elif wanted[name].type != kind:
            message = f"{table}: column {name} is {kind} in the table and {wanted[name].type} in its contract"
            raise UtilityFlowError("UF-3002", message, hint="give the new type to a new column")
        elif wanted[name].required and nullable:
            raise UtilityFlowError("UF-3002", f"{table}: column {name} may be null in the table, not in its contract")
    hashed = "_record_hash" in live
    for name, column in wanted.items():
        if name in live:
            continue
        if column.required:
            message = f"{table}: the new column {name} is required, but the rows that stand have no value for it"
            raise UtilityFlowError("UF-3002", message, hint="a new column may be null")
        if hashed and not name.startswith("_") and not column.added:
            message = f"{table}: the new column {name} has no custom property addedIn"
            raise UtilityFlowError("UF-3002", message, hint="it keeps the hashes of the records that stand")
