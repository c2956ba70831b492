"""The one place that builds a SparkSession and knows the platform (local, Synapse, Databricks, Spark Connect)."""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utilityflow.errors import UtilityFlowError
from utilityflow.jvm import (
    JVM_OPTIONS,
    check_java,
    delta_jars,
    driver_jars,
    quiet_start,
    remember_classes,
    shared_classes,
)
from utilityflow.settings import Settings, SparkSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

# What every session of the suite relies on, wherever it comes from (all can be set on a running session).
RUNTIME_CONF: dict[str, str] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.compression.codec": "zstd",
    # Delta's log holds the statistics by which files are skipped; those within a file cost a fifth of the writing
    "parquet.column.statistics.enabled": "false",
    "parquet.size.statistics.enabled": "false",
    # thirty rules over fifteen columns send the inference of constraints into exponential time (SPARK-33152)
    "spark.sql.constraintPropagation.enabled": "false",
    # the same code in another place of a plan stays the same class, which is compiled already
    "spark.sql.codegen.useIdInClassName": "false",
    "spark.databricks.delta.snapshotPartitions": "2",
    # a checksum file beside each commit costs two more renames; on a local disk each forks a process for its link status
    "spark.databricks.delta.writeChecksumFile.enabled": "false",
    # without that file nobody reads what is listed for it, but every commit would run a query to list it
    "spark.databricks.delta.allFilesInCrc.enabled": "false",
    # a load of a few months keeps a file open for each; the default sorts every row by its partition first
    "spark.sql.maxConcurrentOutputFileWriters": "8",
    "spark.databricks.delta.write.txnVersion.autoReset.enabled": "true",
    "spark.databricks.delta.merge.repartitionBeforeWrite.enabled": "false",
    # the small side of a lookup broadcasts: 2M (key, surrogate key, from, to) rows are about 100 MB in memory
    "spark.sql.autoBroadcastJoinThreshold": str(64 * 1024 * 1024),
}

# What results rely on: neither a conf file nor spark-submit's own options change it.
_FIXED = frozenset({
    "spark.sql.session.timeZone", "spark.sql.ansi.enabled", "spark.sql.legacy.timeParserPolicy",
    "spark.sql.parquet.outputTimestampType", "spark.sql.parquet.datetimeRebaseModeInWrite",
    "spark.databricks.delta.write.txnVersion.autoReset.enabled", "spark.hadoop.parquet.page.verify-checksum.enabled",
})  # fmt: skip

# For a few thousand rows: no stages planned anew after each shuffle, one partition, rows interpreted instead of classes
# compiled. Measured on a run of 500 reads in a warm session: 33 s become 21 s. A test compares content hashes under both.
SMALL: dict[str, str] = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}

# A driver on the machine of its executors listens to this machine alone; on a cluster they must find it.
_THIS_MACHINE = ("spark.driver.host", "spark.driver.bindAddress")

# What only a session that we start ourselves can be given.
_LOCAL_CONF: dict[str, str] = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.catalogImplementation": "in-memory",
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # a run has several hundred generated classes; those of the next month's run are the same
    "spark.sql.codegen.cache.maxEntries": "2000",
    "spark.sql.ui.retainedExecutions": "1",
    # jobs and stages are kept until their step has ended, for its profile; a run of six systems has 700 and 2,600
    "spark.ui.retainedJobs": "1000",
    "spark.ui.retainedStages": "3000",
    "spark.ui.retainedTasks": "1",
    "spark.cleaner.referenceTracking.cleanCheckpoints": "true",
    "spark.databricks.delta.vacuum.parallelDelete.enabled": "true",
    "spark.redaction.regex": "(?i)secret|password|token|access[.]key|sas",
    # pyspark 4 notes the line of Python behind every column expression, with five calls of the JVM for each
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}


def get_session(
    app: str = "utilityflow",
    *,
    master: str | None = None,
    extra: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    scratch: Path | None = None,
) -> SparkSession:
    """The session of this process: built on the first call, adjusted and returned on later ones.

    :param app: name shown by the cluster.
    :param master: overrides the settings' master (local platform only).
    :param extra: further Spark configuration; static keys only take effect on the first call.
    :param scratch: folder for spill files, the warehouse folder and the JVM's log, which goes with the process; a temporary
        one if None.
    :raises UtilityFlowError: UF-1007 when Java or the Delta jars are missing.
    """
    settings = settings or Settings()
    spark = _build(app, settings, master, dict(extra or {}), scratch)
    for key, value in _over_submitted(_runtime_conf(settings.spark, extra)).items():
        spark.conf.set(key, value)
    return spark


def fit_to(spark: SparkSession, settings: Settings, size: int) -> None:
    """Set a local session for a run over ``size`` bytes of files: SMALL up to the settings' bound, else as it was built."""
    if settings.platform != "local":
        return
    small = size <= settings.spark.small_bytes
    usual = {"spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions)} | settings.spark.conf
    for key, value in _over_submitted(SMALL).items():
        if small:
            spark.conf.set(key, value)
        elif key in usual:
            spark.conf.set(key, usual[key])
        else:
            spark.conf.unset(key)


def _runtime_conf(spark: SparkSettings, extra: Mapping[str, str] | None) -> dict[str, str]:
    conf = RUNTIME_CONF | {"spark.sql.shuffle.partitions": str(spark.shuffle_partitions)} | spark.conf
    given = {k: v for k, v in (extra or {}).items() if k in conf or k.startswith("spark.sql.shuffle")}
    return {k: v for k, v in (conf | given).items() if k not in _LOCAL_CONF and not _is_static(k)}


def _submitted() -> dict[str, str]:
    """What spark-submit was told, by its options and by spark-defaults.conf; {} for a session that we start ourselves."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def _over_submitted(conf: Mapping[str, str]) -> dict[str, str]:
    """The settings without those of which the submitter said something else: a command line wins, but for _FIXED."""
    said = _submitted()
    alone = () if not said or said.get("spark.master", "local").startswith("local") else _THIS_MACHINE
    return {k: v for k, v in conf.items() if k in _FIXED or (k not in said and k not in alone)}


def _is_static(key: str) -> bool:
    return not key.startswith(("spark.sql.", "spark.databricks.", "parquet.")) or key in {"spark.sql.warehouse.dir"}


def _build(
    app: str, settings: Settings, master: str | None, extra: dict[str, str], scratch: Path | None
) -> SparkSession:
    from pyspark.sql import SparkSession

    if settings.platform in ("synapse", "databricks"):
        return SparkSession.builder.appName(app).getOrCreate()
    if settings.platform == "connect":
        remote = settings.spark.remote or os.environ.get("SPARK_REMOTE")
        if not remote:
            raise UtilityFlowError(
                "UF-1002", "platform connect needs spark.remote or SPARK_REMOTE, for example sc://host:15002"
            )
        return SparkSession.builder.appName(app).remote(remote).getOrCreate()
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    check_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers must run the Python that the driver runs
    scratch = scratch or Path(tempfile.mkdtemp(prefix="utilityflow-"))
    scratch.mkdir(parents=True, exist_ok=True)
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    conf = _LOCAL_CONF | RUNTIME_CONF | settings.spark.conf
    conf["spark.sql.warehouse.dir"] = str(scratch / "warehouse")
    conf["spark.local.dir"] = str(scratch)
    conf["spark.driver.memory"] = settings.spark.driver_memory
    own = f"{shared_classes()}-Dderby.system.home={scratch} -Djava.io.tmpdir={scratch}"
    conf["spark.driver.extraJavaOptions"] = f"{JVM_OPTIONS} {own}"
    conf["spark.executor.extraJavaOptions"] = JVM_OPTIONS  # on a cluster the long generated methods run there
    conf = _over_submitted(conf)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # under spark-submit the jars and the master are the submitter's
        conf["spark.jars"] = ",".join(str(jar) for jar in [*delta_jars(), *driver_jars()])
        conf["spark.master"] = master or settings.spark.master
    builder = SparkSession.builder.appName(app)
    for key, value in (conf | extra).items():
        builder = builder.config(key, value)
    with quiet_start(scratch / "spark.log"):
        spark = builder.getOrCreate()
    remember_classes(spark._jvm)
    return spark


LARGE_FILE = 500_000  # rows: about 12 MB of silver
_OPEN_COST = "spark.sql.files.openCostInBytes"


@contextlib.contextmanager
def file_by_file(spark: SparkSession, rows: int, files: int) -> Iterator[None]:
    """While the block runs, each data file (or 128 MiB of it) is read by a task of its own, where they are large.

    The engine fills its tasks with parts of several files, largest first, so that each file that is written holds days of
    the whole month, and none can be skipped by its days later. Of small files that would make many more small ones.

    :param rows: of all that is read. :param files: how many days or files they came in.
    """
    if files < 2 or rows // files < LARGE_FILE:
        yield
        return
    before = spark.conf.get(_OPEN_COST)
    spark.conf.set(_OPEN_COST, str(128 * 1024**2))
    try:
        yield
    finally:
        spark.conf.set(_OPEN_COST, str(before))


_SEPARATOR = re.compile(r",\s*(?![^(<]*[)>])")


def local_frame(spark: SparkSession, rows: Iterable[Sequence[Any]], schema: StructType | str) -> DataFrame:
    """A small frame from Python values, without Python workers.

    ``createDataFrame`` of a list starts worker processes, which costs seconds for a row; here the rows travel as one
    JSON literal inside the plan.

    :param rows: values in the schema's order: text, int, float, bool, date, aware datetime, list of text or None.
    :param schema: a StructType or DDL text.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.types import StructType

    if isinstance(schema, StructType):
        names = schema.names
        ddl = ", ".join(f"{f.name} {f.dataType.simpleString()}" for f in schema.fields)
    else:
        ddl = schema
        names = [part.split()[0] for part in _SEPARATOR.split(schema)]
    rows = list(rows)
    if not rows:  # known as empty to the optimizer, which then leaves out what would have been done with its rows
        empty = F.lit(None).cast(f"struct<{_fields(ddl)}>").alias("row")
        return spark.range(1).select(empty).where(F.lit(False)).select("row.*")
    text = json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=_json_value)
    one = spark.range(0, 1, 1, 1)  # one partition: a second one would be written as an empty file that no commit names
    return one.select(F.inline(F.from_json(F.lit(text), f"array<struct<{_fields(ddl)}>>", {"mode": "FAILFAST"})))


def _fields(ddl: str) -> str:
    return ", ".join(":".join(part.split(maxsplit=1)) for part in _SEPARATOR.split(ddl))


def _json_value(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.timezone.utc).isoformat()
    if isinstance(value, dt.date):
        return value.isoformat()
    raise TypeError(f"no JSON form for {type(value).__name__}")


def by_connect(spark: SparkSession) -> bool:
    """Whether the session is a client of Spark Connect: plans are analysed when they run, not when they are made."""
    return ".connect." in f"{type(spark).__module__}."


def spark_version(spark: SparkSession) -> tuple[int, int]:
    """Major and minor version of the engine, for the few places where the lanes differ."""
    major, minor = spark.version.split(".")[:2]
    return int(major), int(minor)
