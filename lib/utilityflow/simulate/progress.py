"""Progress of what takes long: how far it is, and how much time is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_SECONDS = 5.0


@contextmanager
def reporting(
    what: str, count: int, part: Callable[[], float], progress: Callable[[str], None], unit: str = "rows"
) -> Iterator[None]:
    """While something runs, say every few seconds how far it is.

    :param what: what is told of, such as a feed. :param count: how many ``unit`` there are in all, perhaps an estimate.
    :param part: the share of them that is done, asked in another thread. What is told never goes back: a folder that is listed
        while its files are moved shows less than there is.
    """
    done = threading.Event()

    def watch() -> None:
        first: tuple[float, float] | None = None  # when something was first done: planning counts for no rate
        share = 0.0
        while not done.wait(EVERY_SECONDS):
            share, now = max(share, min(0.99, part())), time.monotonic()
            if first is None and share > 0:
                first = (now, share)
            left = "time left not known yet"
            if first and share > first[1]:
                left = f"{(1 - share) * (now - first[0]) / (share - first[1]):.0f} s left"
            progress(f"{what}: about {round(share * count):,} of {count:,} {unit}, {left}")

    watcher = threading.Thread(target=watch, name="simulate-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
