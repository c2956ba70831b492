"""Keep the classes that a small session loads in one file, which every session of this environment maps (class data sharing).

    .venv/bin/python requirements/archive_classes.py

The session writes a table, merges into it, reads it, and reads and writes files of three formats.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from pyspark import SparkContext

from utilityflow.jvm import JVM_OPTIONS, QUIET_ARCHIVE, class_archive
from utilityflow.session import get_session


def main() -> None:
    """Make the archive anew."""
    class_archive().unlink(missing_ok=True)
    draft = class_archive().with_suffix(".part")  # a JVM does not start from half an archive
    options = f'{JVM_OPTIONS} -XX:ArchiveClassesAtExit="{draft}" {QUIET_ARCHIVE}'
    folder = Path(tempfile.mkdtemp(prefix="utilityflow-"))
    try:
        spark = get_session("class archive", extra={"spark.driver.extraJavaOptions": options}, scratch=folder)
        _work(spark, folder)
        gateway: Any = SparkContext._gateway
        spark.stop()
        gateway.proc.stdin.close()  # which ends the JVM, and as it ends it writes
        if gateway.proc.wait(300) == 0:
            draft.replace(class_archive())
    finally:
        draft.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _work(spark: Any, folder: Path) -> None:
    table = folder / "table"
    rows = spark.range(100).selectExpr("id", "id % 3 AS k", "cast(id AS string) AS s", "current_date() AS d")
    for number in range(2):
        rows.write.format("delta").mode("append").save(str(table))
        for form in ("csv", "json", "parquet"):
            rows.write.mode("overwrite").format(form).save(str(folder / form))
            read = spark.read.format(form).schema(rows.schema).load(str(folder / form))
            read.groupBy("k").agg({"id": "sum"}).join(rows, "k").orderBy("id").collect()
        rows.where(f"id = {number}").createOrReplaceTempView("changed")
        spark.sql(f"MERGE INTO delta.`{table}` t USING changed s ON t.id = s.id + 1000 "
                  "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *")  # fmt: skip


if __name__ == "__main__":
    main()
