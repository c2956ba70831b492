"""A standalone Spark master with two workers of one core each, from the pip package alone, and what can befall them.

Everything that they write lies in one folder; they and their executors form process groups of their own, so that
nothing is left when they are stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyspark

FLOOR = pyspark.__version__.startswith("3.")
_PACKAGE = Path(pyspark.__file__).parent
# short-lived engines: what the second compiler would gain, it does not earn back
_QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def wait_for(what: str, found: Callable[[], object], seconds: float = 90, pause: float = 0.1) -> None:
    """Return when ``found()`` holds.

    :raises TimeoutError: it did not within the time.
    """
    until = time.monotonic() + seconds
    while not found():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(pause)


class Standalone:
    """The cluster; use it as a context."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder, self.repository = folder, repository
        self.events = folder / "events"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.url = ""

    def __enter__(self) -> Standalone:
        self.events.mkdir(parents=True)
        try:
            master = self._daemon("master", "master.Master", "--port", "0")
            wait_for("the master's address", lambda: b"Starting Spark master at" in master.read_bytes())
            self.url = re.findall(r"Starting Spark master at (spark://\S+)", master.read_text(errors="replace"))[0]
            logs = [self._daemon(f"worker-{n}", "worker.Worker", self.url, "--cores", "1", "--memory", "1g",
                                 "--work-dir", str(self.folder / f"work-{n}")) for n in (1, 2)]  # fmt: skip
            wait_for("two workers", lambda: all(b"Successfully registered with master" in log.read_bytes() for log in logs))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # executors are of their worker's group
            process.wait()

    def _daemon(self, name: str, kind: str, *words: str) -> Path:
        log = self.folder / f"{name}.log"
        environment = os.environ | {
            "SPARK_HOME": str(_PACKAGE), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(self.folder / f"local-{name}"),
            "SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": f"{_QUICK} -Dspark.master.rest.enabled=false",
        }  # fmt: skip
        command = [str(_PACKAGE / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", "--host", "127.0.0.1",
                   "--webui-port", "0", *words]  # fmt: skip
        with log.open("wb") as stream:
            self.processes.append(subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True,
                                                   stdin=subprocess.DEVNULL, stdout=stream, stderr=stream))  # fmt: skip
        return log

    def submit(self, *words: str, options: tuple[str, ...] = (), log: Path | None = None) -> subprocess.CompletedProcess[str]:
        """``./spark-submit.sh <options> <words>`` as a user of this cluster calls it.

        :param log: takes the points that the run passes (lakehouse.CrashPoints).
        """
        conf = {
            "spark.executor.memory": "640m", "spark.executor.extraJavaOptions": f"{_QUICK} -XX:-DontCompileHugeMethods",
            "spark.eventLog.enabled": "true", "spark.eventLog.dir": self.events.as_uri(),
            "spark.eventLog.compress": "false", "spark.eventLog.rolling.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
        }  # fmt: skip
        given = [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_", "UF_"))}
        environment |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SUBMIT_OPTS": _QUICK, "LANE": "floor" if FLOOR else "default",
                        "SPARK_SUBMIT_ARGS": f"--master {self.url} --driver-memory 1g"}  # fmt: skip
        if log:
            environment["UF_CRASH_LOG"] = str(log)
        command = [str(self.repository / "spark-submit.sh"), *given, *options, *words]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=900, check=False)  # fmt: skip

    def executors(self) -> list[int]:
        """Processes of the executors that live, by their working folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if b"CoarseGrainedExecutorBackend" in (process / "cmdline").read_bytes():
                    folder = (process / "cwd").readlink()
                    if folder.is_relative_to(self.folder.resolve()):
                        found.append(int(process.name))
            except OSError:  # it ended meanwhile
                continue
        return sorted(found)

    def signal(self, processes: list[int], number: signal.Signals) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def shuffles(self) -> list[Path]:
        """Index files of what map tasks have written."""
        return list(self.folder.glob("local-worker-*/spark-*/executor-*/blockmgr-*/*/shuffle_*.index"))

    def log_of_last_run(self) -> Path | None:
        """Spark's event log of the newest application."""
        return max(self.events.iterdir(), key=lambda p: p.stat().st_ctime_ns, default=None)

    def told(self, log: Path | None) -> list[dict[str, object]]:
        """The whole lines of an event log."""
        text = log.read_text(encoding="utf-8", errors="replace") if log and log.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1] if line]

    def failures(self) -> Counter[str]:
        """Why tasks of the newest application had to run again."""
        ends = [e["Task End Reason"] for e in self.told(self.log_of_last_run()) if e["Event"] == "SparkListenerTaskEnd"]
        return Counter(str(end["Reason"]) for end in ends if end["Reason"] != "Success")  # type: ignore[index]


class Trouble(threading.Thread):
    """What befalls the executors of one submitted run, in this order: (point, ``kill`` or ``lose``).

    When the run has passed the point, ``kill``: all executors are frozen and, when a job waits for them, killed, so that tasks
    are lost; ``lose``: what map tasks write next is removed before it is read, so that tasks that had succeeded run again.
    """

    def __init__(self, cluster: Standalone, points: Path, todo: list[tuple[str, str]]) -> None:
        super().__init__(daemon=True)
        self.cluster, self.points, self.todo = cluster, points, list(todo)
        self.killed = 0
        self.ended = threading.Event()

    def __enter__(self) -> Trouble:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        while self.todo and not self.ended.is_set():
            point, what = self.todo[0]
            if self.points.exists() and f" {point}\n" in self.points.read_text():
                if not (self._kill(point) if what == "kill" else self._lose()):
                    return
                self.todo.pop(0)
            time.sleep(0.02)

    def _kill(self, point: str) -> bool:
        """Executors that stand still keep what they are given, so a job that begins now is in their hands when they die."""
        victims = self.cluster.executors()
        self.cluster.signal(victims, signal.SIGSTOP)
        try:
            wait_for(f"a job after {point}", lambda: self.ended.is_set() or self._jobs(), pause=0.2)
            time.sleep(0.7)  # until its tasks are given out
        finally:
            self.cluster.signal(victims, signal.SIGKILL)
        self.killed += len(victims)
        return True

    def _jobs(self) -> int:
        """Jobs that run now."""
        kinds = Counter(e["Event"] for e in self.cluster.told(self.cluster.log_of_last_run()))
        return kinds["SparkListenerJobStart"] - kinds["SparkListenerJobEnd"]

    def _lose(self) -> bool:
        """Removed while nobody reads; False when no map task wrote anything before the run ended."""
        known = set(self.cluster.shuffles())
        while not set(self.cluster.shuffles()) - known:
            if self.ended.is_set():
                return False
            time.sleep(0.004)
        executors = self.cluster.executors()
        self.cluster.signal(executors, signal.SIGSTOP)
        for index in self.cluster.shuffles():
            index.unlink(missing_ok=True)
            index.with_suffix(".data").unlink(missing_ok=True)
        self.cluster.signal(executors, signal.SIGCONT)
        return True
