"""Errors that a user meets: each has a code, a cause in plain words and the exit status it ends the command with.

The catalogue is the single list of codes; docs/runbook.md holds cause, check and fix for each one, and a test compares
the two. Codes: UF-1xxx configuration and use, UF-2xxx input (files and rows), UF-3xxx tables and contracts, UF-4xxx runs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_GATE, EXIT_LEASE, EXIT_INTEGRITY = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True)
class ErrorKind:
    """One entry of the catalogue: what went wrong and the exit status of a command that ends with it."""

    title: str
    exit_code: int


CATALOGUE: dict[str, ErrorKind] = {
    "UF-1001": ErrorKind("unknown key in a configuration file", EXIT_USAGE),
    "UF-1002": ErrorKind("a configuration value is missing or has the wrong type", EXIT_USAGE),
    "UF-1003": ErrorKind("a configuration file cannot be read", EXIT_USAGE),
    "UF-1004": ErrorKind("wrong use of a command", EXIT_USAGE),
    "UF-1005": ErrorKind("the as-of date lies before the last publication's", EXIT_USAGE),
    "UF-1006": ErrorKind("the time zone of a home cannot be changed", EXIT_USAGE),
    "UF-1007": ErrorKind("Java, the Delta jars or a database's driver are missing", EXIT_USAGE),
    "UF-1008": ErrorKind("the home or the landing root cannot be used", EXIT_USAGE),
    "UF-1009": ErrorKind("the home was written by a newer version of the suite", EXIT_USAGE),
    "UF-1010": ErrorKind("a secret that the configuration refers to cannot be resolved", EXIT_USAGE),
    "UF-1011": ErrorKind("an expression uses something that feeds may not use", EXIT_USAGE),
    "UF-1012": ErrorKind("a feed and its entity's contract do not fit", EXIT_USAGE),
    "UF-1013": ErrorKind("not enough free disk space for what was asked", EXIT_USAGE),
    "UF-1020": ErrorKind("the deployment settings or the jobs do not fit a platform", EXIT_USAGE),
    "UF-1021": ErrorKind("deployment files are not valid", EXIT_FAILED),
    "UF-2001": ErrorKind("a file is empty or has no header", EXIT_FAILED),
    "UF-2002": ErrorKind("a mapped column is missing from a file", EXIT_FAILED),
    "UF-2003": ErrorKind("a compressed file is damaged or too large", EXIT_FAILED),
    "UF-2004": ErrorKind("a file is not in the encoding that its feed names", EXIT_FAILED),
    "UF-2005": ErrorKind("a quote is opened and never closed", EXIT_FAILED),
    "UF-2006": ErrorKind("control totals do not agree", EXIT_FAILED),
    "UF-2007": ErrorKind("a file vanished or changed while it was read", EXIT_FAILED),
    "UF-2008": ErrorKind("a path leads out of the landing root", EXIT_FAILED),
    "UF-2009": ErrorKind("a file is not what its format says", EXIT_FAILED),
    "UF-2010": ErrorKind("a snapshot is empty or has shrunk beyond the bound", EXIT_FAILED),
    "UF-2011": ErrorKind("a file cannot be read", EXIT_FAILED),
    "UF-2012": ErrorKind("a source cannot be reached or refuses", EXIT_FAILED),
    "UF-2013": ErrorKind("a source answers otherwise than its feed says", EXIT_FAILED),
    "UF-2014": ErrorKind("an extract would exceed its bounds", EXIT_FAILED),
    "UF-3001": ErrorKind("a contract is not valid", EXIT_USAGE),
    "UF-3002": ErrorKind("a table differs from its contract in a way that cannot be migrated", EXIT_INTEGRITY),
    "UF-3003": ErrorKind("a table of the lakehouse cannot be read", EXIT_INTEGRITY),
    "UF-3004": ErrorKind("two identities share one surrogate key", EXIT_INTEGRITY),
    "UF-3005": ErrorKind("a dimension changed while its difference was computed", EXIT_FAILED),
    "UF-3006": ErrorKind("an invariant of the lakehouse does not hold", EXIT_INTEGRITY),
    "UF-3007": ErrorKind("a write was skipped as a duplicate although it was new", EXIT_INTEGRITY),
    "UF-3008": ErrorKind("another program changed rows of a table", EXIT_INTEGRITY),
    "UF-3009": ErrorKind("a table asks for a feature that not every engine here knows", EXIT_INTEGRITY),
    "UF-3010": ErrorKind("a setting of another write was left in the session", EXIT_INTEGRITY),
    "UF-4001": ErrorKind("a step failed", EXIT_FAILED),
    "UF-4002": ErrorKind("a target did not agree with the lakehouse and was not published", EXIT_INTEGRITY),
    "UF-4003": ErrorKind("a declared threshold was crossed", EXIT_GATE),
    "UF-4004": ErrorKind("another process holds the home", EXIT_LEASE),
    "UF-4005": ErrorKind("nothing has been published yet", EXIT_FAILED),
    "UF-4006": ErrorKind("no such row", EXIT_FAILED),
    "UF-4007": ErrorKind("the disk is full or the home became read-only during a run", EXIT_FAILED),
    "UF-4008": ErrorKind("the lease was lost to another process", EXIT_LEASE),
    "UF-4009": ErrorKind("a publication cannot be gone back to", EXIT_FAILED),
    "UF-4999": ErrorKind("an unforeseen error", EXIT_FAILED),
}


class UtilityFlowError(Exception):
    """An error with a code of the catalogue; ``str()`` gives the one line a user reads.

    :param code: a code of CATALOGUE.
    :param message: what happened, with the names that a user needs (file, row, key, table), never personal data.
    :param hint: what to do next, one sentence; optional.
    """

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        if code not in CATALOGUE:
            raise KeyError(f"error code {code} is not in the catalogue")
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def exit_code(self) -> int:
        """Exit status of a command that ends with this error."""
        return CATALOGUE[self.code].exit_code

    def __str__(self) -> str:
        tail = f" ({self.hint})" if self.hint else ""
        return f"{self.code}: {self.message}{tail}"


_REFUSALS = ("No space left on device", "Disk quota exceeded", "Read-only file system")


def disk_refuses(error: BaseException) -> str:
    """The system's words when a write failed because the disk is full or may not be written, else an empty text.

    The engine tells of it in the text of its own exceptions.
    """
    text = str(error)
    return next((words for words in _REFUSALS if words in text), "")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or lists all when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
