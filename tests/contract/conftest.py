"""A lakehouse with every table that there is, made by the suite itself and empty."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.pipeline import ensure_tables, read_feeds, tables_of
from utilityflow.settings import load_settings
from utilityflow.silver.judging import ENTITIES, tables_of_entity

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass
class Live:
    """What a table's Delta log says of it, read without the suite and without Spark."""

    columns: list[dict[str, Any]] = field(default_factory=list)
    partitions: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    domains: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> Live:
        """The newest metadata and protocol; the log may not have been checkpointed away."""
        found = cls()
        for file in sorted((Path(folder) / "_delta_log").glob("*.json")):
            for line in file.read_text("utf-8").splitlines():
                action = json.loads(line)
                if told := action.get("metaData"):
                    found.columns = json.loads(told["schemaString"])["fields"]
                    found.partitions, found.properties = told["partitionColumns"], told["configuration"]
                found.protocol = action.get("protocol", found.protocol)
                if domain := action.get("domainMetadata"):
                    found.domains[domain["domain"]] = domain["configuration"]
        return found


@pytest.fixture(scope="session")
def house(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """Every table that a lakehouse can have, with the shipped feeds. Tests read it and do not change it."""
    house = Lakehouse(spark, str(tmp_path_factory.mktemp("contract")), load_contracts())
    ensure_tables(house, table_names())
    return house


def table_names() -> list[str]:
    """Names of the tables of a lakehouse with the shipped feeds, and of all others that feeds can bring."""
    names = tables_of(read_feeds(load_settings(environ={})))
    silver = [name for entity in ENTITIES for name in tables_of_entity(entity)]
    return list(dict.fromkeys([*names, *silver, *(c.name for c in load_contracts().of_layer("gold"))]))
