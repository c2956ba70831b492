"""The Java machine of a session: which one, its options, the jars on its path, and what is told to it and by it at its start."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utilityflow.errors import UtilityFlowError

# Thirty rules make generated methods longer than the 8,000 bytes that the JIT takes by default: they would be interpreted
# (a month of 100,000 customers: 164 s instead of 137 s). The optimizing compiler is asked for four times as hot code as by
# default: it took 82 of the 282 CPU seconds of that month, and takes 57 so (125 s).
JVM_OPTIONS = (
    "-XX:+UseParallelGC -XX:-DontCompileHugeMethods -XX:Tier4InvocationThreshold=20000 -XX:Tier4MinInvocationThreshold=2400 "
    "-XX:Tier4CompileThreshold=60000 -XX:Tier4BackEdgeThreshold=400000"
)

QUIET_ARCHIVE = "-Xlog:cds=off -Xlog:cds+dynamic=off"  # of an archive that does not fit the JVM says no line to a user

_OF_EVERY_COLUMN = ("PythonUtils", "PythonSQLUtils", "functions", "org.apache.spark.sql.functions")


def check_java() -> None:
    """Fail early, in one line, when no Java that Spark can use is there.

    :raises UtilityFlowError: UF-1007.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else shutil.which("java")
    if java is None:
        raise UtilityFlowError(
            "UF-1007", "no Java found", hint="install Java 17, for example openjdk-17-jre-headless, or set JAVA_HOME"
        )
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr  # noqa: S603 - fixed arguments
    told = re.search(r'version "([^"]*)"', answer)  # options in JAVA_TOOL_OPTIONS have the JVM say more, before that
    version = told.group(1) if told else ""
    if not version.startswith(("17", "21")):
        raise UtilityFlowError(
            "UF-1007", f"Java {version or 'of unknown version'} found at {java}", hint="Java 17 is needed"
        )


def delta_jars() -> list[Path]:
    """The Delta jars that set-up fetched; they are kept with the environment, so that runs need no network.

    :raises UtilityFlowError: UF-1007 when they are missing.
    """
    folder = _jar_folder()
    jars = sorted(folder.glob("*.jar"))
    if not jars:
        raise UtilityFlowError("UF-1007", f"no Delta jars in {folder}", hint="run 'make setup'")
    return jars


def driver_jars() -> list[Path]:
    """The drivers of databases: those that set-up fetched, and what was put beside them (SQL Server's)."""
    return sorted((_jar_folder() / "jdbc").glob("*.jar"))


def class_archive() -> Path:
    """Where set-up leaves the engine's classes as one file that a JVM maps: it saves a fifth of the CPU time of a start."""
    return _jar_folder().parent / "classes.jsa"


def shared_classes() -> str:
    """The options that name the archive, if it is there; a JVM that another Java or other jars made it for does without."""
    file = class_archive()
    return f'-XX:SharedArchiveFile="{file}" {QUIET_ARCHIVE} ' if file.is_file() else ""


def _jar_folder() -> Path:
    return Path(os.environ.get("UTILITYFLOW_JARS") or Path(sys.prefix) / "share" / "utilityflow" / "jars")


@contextlib.contextmanager
def quiet_start(log: Path) -> Iterator[None]:
    """Let the JVM that starts inside inherit a log file as its output streams: no banner in front of a user."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, sink):
            os.close(descriptor)


class _Remembered:
    """A class of the JVM whose methods py4j looks up once."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if type(found).__name__ == "JavaMember":  # not a constant
            setattr(self, name, found)
        return found


def remember_classes(jvm: Any) -> None:
    """Keep the classes that pyspark asks for with each column and each list of columns.

    py4j asks the JVM for the class and for the method by name at every call. A name without its package is looked for in each
    imported package, which searches every jar in vain: 4 % of the CPU time of a run over few rows.
    """
    for name in _OF_EVERY_COLUMN:
        found = getattr(jvm, name)
        if type(found).__name__ == "JavaClass":  # what is none is taken for a package
            vars(jvm)[name] = _Remembered(found)
