"""What the engine did for a step: rows and bytes read and written, shuffle, spill, seconds of its tasks.

Spark's own counters, summed over the stages of the jobs that a step's thread started: a job group is handed on to the threads
and broadcasts that the work starts. A stage that ran again is counted by its last attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from utilityflow.session import by_connect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_COUNTED: tuple[Callable[[Any], int], ...] = (
    lambda s: s.inputRecords(), lambda s: s.inputBytes(), lambda s: s.outputBytes(), lambda s: s.shuffleWriteBytes(),
    lambda s: s.diskBytesSpilled(), lambda s: s.executorRunTime(),
)  # fmt: skip
log = logging.getLogger("utilityflow.profile")


@dataclass
class Profile:
    """Rows, bytes and seconds of a step's tasks; all None where the engine does not tell (Spark Connect)."""

    rows_read: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    shuffle_bytes: int | None = None
    spill_bytes: int | None = None
    task_seconds: float | None = None

    @property
    def values(self) -> tuple[Any, ...]:
        """In the order of the columns of ``ops.step``."""
        return tuple(getattr(self, f.name) for f in fields(self))


@contextmanager
def profiled(spark: SparkSession, group: str) -> Iterator[Profile]:
    """Fill the profile at the end of the block with what this thread, and those it starts, let the engine do.

    :param group: a name that no other block has.
    """
    profile = Profile()
    if by_connect(spark):
        yield profile
        return
    context = spark.sparkContext
    inside = context._jsc.sc()
    before = inside.getLocalProperties()
    inside.setLocalProperties(before.clone())  # what the block sets goes with it
    context.setJobGroup(group, group.rpartition(" ")[2])
    try:
        yield profile
    finally:
        inside.setLocalProperties(before)
        try:
            _sum_up(context, group, profile)
        except Exception as failure:  # the counters are Spark's developer API; a platform may not have them
            log.debug("no profile of %s: %s", group, type(failure).__name__)


def _sum_up(context: Any, group: str, profile: Profile) -> None:
    inside = context._jsc.sc()
    inside.listenerBus().waitUntilEmpty()  # the counters arrive by messages
    store = inside.statusStore()
    stages = {s for job in context.statusTracker().getJobIdsForGroup(group) for s in _numbers(store.job(job).stageIds())}
    tracker = inside.statusTracker()
    attempts = [_attempt(tracker, store, number) for number in sorted(stages)]
    done = [s for s in attempts if s is not None and s.status().toString() != "SKIPPED"]
    sums = [sum(counted(stage) for stage in done) for counted in _COUNTED]
    profile.rows_read, profile.bytes_read, profile.bytes_written, profile.shuffle_bytes, profile.spill_bytes, run_time = sums
    profile.task_seconds = run_time / 1000


def _attempt(tracker: Any, store: Any, number: int) -> Any | None:
    """A stage; None when it is forgotten already: skipped ones are, as what they would have made was there, before all others.

    Whether it is there is asked first: an error of the JVM costs fifty more questions, and of a run's stages hundreds are gone.
    """
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]

    if tracker.getStageInfo(number).isEmpty():
        return None
    try:
        return store.lastStageAttempt(number)
    except Py4JJavaError as error:
        if "NoSuchElementException" not in str(error.java_exception):
            raise
        return None


def _numbers(sequence: Any) -> list[int]:
    return [int(sequence.apply(i)) for i in range(sequence.size())]
