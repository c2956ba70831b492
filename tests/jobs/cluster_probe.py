"""Submitted by test_cluster.py: what the driver and the Python workers of the executors find, as one JSON object."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from utilityflow.session import get_session

CONF = ("spark.sql.session.timeZone", "spark.sql.ansi.enabled", "spark.sql.shuffle.partitions", "spark.driver.host")


def seen(_: Any) -> str:
    import utilityflow
    from utilityflow.resources import resource

    local = resource("conf", "local.yaml").read_text(encoding="utf-8")
    contracts = sorted(p.name for p in resource("schemas", "gold").iterdir())
    return json.dumps({"version": utilityflow.__version__, "file": utilityflow.__file__, "python": sys.executable,
                       "conf": local, "contracts": contracts, "place": str(Path.cwd())})  # fmt: skip


def flipped(spark: SparkSession, folder: str) -> str:
    """How a task ends that reads a Parquet page of which one bit was flipped; ``read`` when nobody noticed."""
    try:
        spark.read.parquet(folder).agg(F.sum("n")).collect()
    except Exception as error:
        return str(error)
    return "read"


def main(words: list[str]) -> None:
    spark = get_session("probe")
    ask = F.udf(seen)
    rows = spark.range(0, 8, 1, 8).select(ask("id").alias("told")).distinct().collect()
    # in the session's zone and under ANSI, as an executor computes them
    hour = spark.range(1).repartition(2).select(F.expr("hour(timestamp_seconds(id + 3600))")).collect()[0][0]
    try:
        spark.range(1).repartition(2).select(F.expr("1 div id")).collect()
        strict = False
    except Exception as error:
        strict = "DIVIDE_BY_ZERO" in str(error)
    print(json.dumps({
        "driver": json.loads(seen(None)), "workers": [json.loads(r["told"]) for r in rows], "hour": hour, "strict": strict,
        "flipped": flipped(spark, words[0]), "conf": {key: spark.conf.get(key, None) for key in CONF},
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
