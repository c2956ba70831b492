"""Work of one session in several threads: all at once, each when what it needs has ended, and in sessions of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from utilityflow.session import by_connect, spark_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_T = TypeVar("_T")
_R = TypeVar("_R")
_K = TypeVar("_K", bound=Hashable)


def in_parallel(spark: SparkSession, work: Callable[[_T], _R], items: Iterable[_T], workers: int = 4) -> list[_R]:
    """Results in the order of the items; Spark's job tags and pools go with the work into its threads.

    All are brought to their end before the first error, in that order, is raised.
    """
    todo = list(items)
    if len(todo) < 2:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(workers, thread_name_prefix="utilityflow") as pool:
        futures = [pool.submit(for_threads(spark, work), item) for item in todo]
    return [future.result() for future in futures]


def when_ready(spark: SparkSession, work: Callable[[_K], None], needs: Mapping[_K, Collection[_K]], workers: int = 4) -> None:
    """Each item once all that it needs has ended, so many at a time, in the mapping's order where several can begin.

    After an error nothing more begins; what had begun is brought to its end before the first error, in that order, is raised.

    :param needs: item -> items of the mapping; none needs itself, by whatever way.
    """
    if len(needs) == 1:
        work(*needs)
        return
    waiting, running, failed = list(needs), dict[Future[None], _K](), dict[_K, BaseException]()
    with ThreadPoolExecutor(workers, thread_name_prefix="utilityflow") as pool:
        while waiting or running:
            behind = {*waiting, *running.values()}
            able = [item for item in waiting if behind.isdisjoint(needs[item])] if not failed else []
            for item in able[: workers - len(running)]:
                waiting.remove(item)
                running[pool.submit(for_threads(spark, work), item)] = item
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item, error = running.pop(future), future.exception()
                if error is not None:
                    failed[item] = error
    for item in needs:
        if item in failed:
            raise failed[item]


def for_threads(spark: SparkSession, work: Callable[..., _R]) -> Callable[..., _R]:
    """The function as one other thread may call it: Spark's job tags and pools of this thread go with it.

    For each thread anew: what is returned carries one copy of the properties, and two threads that shared it would take
    each other's execution ids away (Spark then answers "Cannot parse null string").
    """
    from pyspark import inheritable_thread_target

    newer = spark_version(spark) >= (4, 0)  # 3.5 wraps the function, 4 wants the session first, for its tags
    own = work if by_connect(spark) else _in_session(spark, work, newer=newer)
    wrapped: Callable[..., _R] = inheritable_thread_target(spark)(own) if newer else inheritable_thread_target(own)
    return wrapped


def _in_session(spark: SparkSession, work: Callable[..., _R], *, newer: bool) -> Callable[..., _R]:
    """The function with this session as its thread's active one.

    Spark 3.5 asks the thread's session, not the frame's, whether a cast that is being written down is an ANSI one.
    """
    session = getattr(spark._jvm, f"org.apache.spark.sql{'.classic' if newer else ''}.SparkSession")  # a whole name: one look

    def active(*given: Any, **named: Any) -> _R:
        session.setActiveSession(spark._jsparkSession)
        return work(*given, **named)

    return active


def copied(spark: SparkSession) -> SparkSession | None:
    """A session with the settings and temporary views that this one has now; what is set in it is seen in it alone.

    None for a client of Spark Connect, whose server lets nobody copy a session.
    """
    if by_connect(spark):
        return None
    return type(spark)(spark.sparkContext, spark._jsparkSession.cloneSession())
