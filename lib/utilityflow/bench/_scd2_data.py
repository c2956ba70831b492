"""A large dimension and batches of events for it, made by arithmetic: the same numbers give the same rows."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from utilityflow.bench._scd2_peers import Shape
from utilityflow.contracts import load_contracts
from utilityflow.lakehouse import Lakehouse
from utilityflow.scd2 import Dimension

ZONE, AS_OF, NAME = "UTC", dt.date(2026, 1, 1), "gold.dim_customer"
STEP = 7919  # a prime: keys picked by it lie spread over all files


@dataclass(frozen=True)
class Sizes:
    """Customers of the dimension, and what a batch brings of each kind, in keys."""

    customers: int
    changed: int
    late: int
    unchanged: int

    def times(self, customers: float, batch: float) -> Sizes:
        """Other sizes by two factors."""
        batches = (int(n * batch) for n in (self.changed, self.late, self.unchanged))
        return Sizes(int(self.customers * customers), *batches)

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


class Scene:
    """The suite's own customer dimension with its events, and batches, in a folder."""

    def __init__(self, spark: SparkSession, folder: Path, sizes: Sizes) -> None:
        self.spark, self.folder, self.sizes = spark, folder, sizes
        folder.mkdir(parents=True)
        contract = load_contracts()[NAME]
        self.dimension = Dimension.from_contract(contract)
        self.table = Lakehouse(spark, str(folder / "lake"), {NAME: contract}).table(NAME)  # type: ignore[arg-type]
        # what a batch really brings: the columns of the mission's DDL and our type-1 ones
        self.shape = Shape(self.dimension.key[0], self.dimension.type2, self.dimension.attributes)

    def events_exist(self) -> None:
        """Write the standing events and make the empty dimension."""
        everyone, tenth = self.spark.range(self.sizes.customers), self.spark.range(0, self.sizes.customers, 10)
        base = self.told(everyone, "2024-01-01", "a").unionByName(self.told(tenth, "2024-07-01", "b"))
        self.write(base, "events", "append")
        self.table.ensure()

    def events(self) -> DataFrame:
        """All standing events."""
        return self.spark.read.format("delta").load(str(self.folder / "events"))

    def news_arrive(self, number: int) -> DataFrame:
        """Batch ``number`` joins the standing events; returns its keys."""
        kinds = self.batch(number)
        self.write(kinds["changed"].unionByName(kinds["unchanged"]).unionByName(kinds["late"]), f"news-{number}", "overwrite")
        news = self.spark.read.format("delta").load(str(self.folder / f"news-{number}"))
        self.write(news, "events", "append")
        return news.select("customer_id")

    def updates(self, number: int) -> DataFrame:
        """Batch ``number`` as the peers take it: without the late changes; columns of the shape and ``starts``."""
        path = self.folder / f"updates-{number}"
        if not path.exists():
            kinds = self.batch(number)
            news = kinds["changed"].unionByName(kinds["unchanged"])
            self.write(news.select(*self.shape.columns, F.to_date("effective_at").alias("starts")), path.name, "overwrite")
        return self.spark.read.format("delta").load(str(path))

    def batch(self, number: int) -> dict[str, DataFrame]:
        """The events of batch ``number`` by kind; each batch changes other keys."""
        s = self.sizes
        start = number * (s.changed + s.unchanged)
        day = f"2025-{number % 12 + 1:02d}-10"
        return {
            "changed": self.told(self.picked(s.changed, start), day, f"c{number}"),
            "unchanged": self.told(self.picked(s.unchanged, start + s.changed).where("id % 10 <> 0"), "2024-06-01", "a"),
            "late": self.told(self.picked(s.late, number * s.late, 10), "2024-03-01", f"l{number}"),
        }

    def picked(self, count: int, start: int, every: int = 1) -> DataFrame:
        """``count`` customers spread over all; ``every`` 10 picks those with two versions."""
        among = max(self.sizes.customers // every, 1)
        return self.spark.range(start, start + count).select(((F.col("id") * STEP) % among * every).alias("id")).distinct()

    def told(self, numbers: DataFrame, day: str, state: str) -> DataFrame:
        """Events of the numbered customers: their state in seven attributes, three type-1 ones."""
        n = F.col("id")
        code = F.sha2(F.concat(n.cast("string"), F.lit(state)), 256)
        fixed = F.sha2(n.cast("string"), 256)

        def part(of: Column, start: int, length: int, before: str = "") -> Column:
            return F.concat(F.lit(before), F.substring(of, start, length))

        return numbers.select(
            F.format_string("C%09d", n).alias("customer_id"),
            part(fixed, 1, 12, "Customer ").alias("customer_name"),
            F.concat(part(code, 1, 4), part(code, 5, 10, " "), F.lit(" Street")).alias("address"),
            part(code, 15, 2, "City ").alias("city"),
            part(fixed, 3, 1, "S").alias("state"),
            part(code, 20, 5).alias("zip_code"),
            F.when(n % 10 < 8, "residential").otherwise("commercial").alias("customer_type"),
            F.lit("active").alias("account_status"),
            part(fixed, 7, 1, "T").alias("tariff_group"),
            part(fixed, 9, 2, "D").alias("district"),
            part(fixed, 11, 1, "R").alias("region"),
            F.to_timestamp(F.lit(f"{day} 12:00:00")).alias("effective_at"),
            F.lit(1).cast("bigint").alias("sequence"),
            F.lit("upsert").alias("operation"),
            F.lit("0" * 64).alias("_file_sha256"),
            (n + F.lit(0)).alias("_row_number"),
        )

    def write(self, frame: DataFrame, name: str, mode: str) -> None:
        """A Delta table beside the dimension."""
        writer = frame.write.format("delta").mode(mode).option("delta.dataSkippingStatsColumns", "customer_id")
        writer.save(str(self.folder / name))
