"""The data dictionary: every contract as Markdown, one table of columns each."""

from __future__ import annotations

from utilityflow.contracts import LAYERS, Column, Contract, load_contracts


def every() -> list[Contract]:
    """All contracts in the order of the layers; families stand behind the tables of their layer."""
    catalog = load_contracts()
    families = sorted(catalog.families.values(), key=lambda c: c.name)
    return [c for layer in LAYERS for c in [*catalog.of_layer(layer), *[f for f in families if f.layer == layer]]]


def tables() -> list[str]:
    """Names of the tables that the dictionary describes."""
    return [c.name for c in every()]


def markdown() -> str:
    """The whole dictionary."""
    head = ["# Data dictionary", "", "Made from the contracts under `schemas/` by `utilityflow docs`; do not edit.", ""]
    return "\n".join([*head, *[line for c in every() for line in _table(c)]])


def _table(contract: Contract) -> list[str]:
    lines = [f"## {contract.name}", "", _cell(contract.description), ""]
    if contract.usage:
        lines += [f"Use: {contract.usage}", ""]
    lines += [f"Grain: {contract.grain}. Contract version {contract.version}.", ""] if contract.grain else []
    lines += ["| column | type | null | meaning | tag | from |", "|---|---|---|---|---|---|"]
    lines += [_column(contract, c) for c in contract.columns]
    if contract.rules:
        lines += ["", "| rule | severity | then | says |", "|---|---|---|---|"]
        for rule in contract.rules:
            then = f"flag `{rule.flag}`" if rule.action == "flag" else rule.action
            lines.append(f"| {rule.id} | {rule.severity} | {then} | {_cell(rule.description)} |")
    return [*lines, ""]


def _column(contract: Contract, column: Column) -> str:
    key = " (key)" if column.name in contract.primary_key else ""
    meaning = column.description
    if column.allowed:
        meaning += f" One of: {', '.join(column.allowed)}."
    if column.examples:
        meaning += f" For example {', '.join(str(e) for e in column.examples)}."
    null = "no" if column.required else "yes"
    sources = ", ".join(column.sources)
    cells = (f"`{column.name}`{key}", column.physical_type, null, _cell(meaning), column.classification, sources)
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
