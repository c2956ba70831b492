"""What a run looks at before its first write, without the engine, and once more before it publishes.

Whatever is wrong with a table is told then, with the table's and the file's name, and nothing has been written.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from utilityflow import __version__
from utilityflow.control.home import Home
from utilityflow.control.run import Run
from utilityflow.control.tablelog import Finding, Head, findings, foreign, last_note, logs
from utilityflow.errors import UtilityFlowError, disk_refuses

_FILE = re.compile(r"lakehouse/(\w+)/(\w+)/([^\s'\"`,;()\[\]]+\.(?:parquet|bin|json))")
_AT_ONCE = ("Concurrent", "DELTA_CONCURRENT", "ProtocolChanged", "MetadataChanged")


@dataclass(frozen=True)
class Found:
    """Where the tables stood when the run began. ``anew``: tables that are not the ones that the last run left."""

    heads: Mapping[str, Head]
    anew: frozenset[str]

    def note(self, heads: Mapping[str, Head]) -> dict[str, object]:
        """What the run leaves for the next one."""
        return {"suite": __version__, "heads": {name: head.as_json() for name, head in sorted(heads.items())}}


def examine(home: Home, names: Iterable[str]) -> Found:
    """Look at every table's log and at the right to write.

    :param names: the tables that the run works on.
    :raises UtilityFlowError: UF-1008 for a folder that may not be written; UF-1009 when a newer suite was at work; UF-3003,
        UF-3008, UF-3009 for the first table that something is wrong with.
    """
    found = logs(home.lakehouse)
    _writable(home, [log.folder for log in found.values()])
    note = last_note(home.lakehouse)
    _version_guard(home, str(note.get("suite", "")))
    known = known_heads(home)
    first = not note  # no run has noted anything yet: what is there is taken as it is
    wrong = [line for name, log in found.items()
             for line in findings(log, log.head() if first and log.newest >= 0 else known.get(name))]  # fmt: skip
    wrong += [_gone(home, name) for name in names if name in known and name not in found and name.startswith("bronze.")]
    if wrong:
        raise error_of(wrong)
    anew = {name for name, head in known.items() if name not in found or found[name].is_anew(head)}
    heads = {name: log.head() if first or name.startswith("ops.") else known.get(name, log.head())
             for name, log in found.items()}  # fmt: skip
    return Found(heads, frozenset(anew))


def look_again(home: Home, found: Found) -> dict[str, Head]:
    """The tables' heads after the steps; ops tables as they were, as the run has yet to write to them.

    :raises UtilityFlowError: UF-3008 when another program has changed rows since the run began.
    """
    now = {name: log for name, log in logs(home.lakehouse).items() if not name.startswith("ops.")}
    wrong = [line for name, log in now.items() for line in foreign(log, found.heads.get(name))]
    if wrong:
        raise error_of(wrong)
    return {**{n: h for n, h in found.heads.items() if n.startswith("ops.")}, **{n: log.head() for n, log in now.items()}}


def cause(home: Home, found: Found, failure: UtilityFlowError) -> UtilityFlowError:
    """The failure, or what lies behind it: rows of another program make checks fail that know nothing of them."""
    try:
        look_again(home, found)
    except UtilityFlowError as behind:
        return behind
    return failure


def known_heads(home: Home) -> dict[str, Head]:
    """Where the last run left each table; {} when no run has told."""
    return {name: Head.of_json(given) for name, given in last_note(home.lakehouse).get("heads", {}).items()}


def error_of(wrong: list[Finding]) -> UtilityFlowError:
    """The first finding as an error; doctor tells of all."""
    more = f" (and {len(wrong) - 1} more: utilityflow doctor)" if len(wrong) > 1 else ""
    return UtilityFlowError(wrong[0].code, f"{wrong[0].says}{more}", hint=wrong[0].way_out)


def _gone(home: Home, name: str) -> Finding:
    folder = home.lakehouse / name.replace(".", "/")
    says = f"{name}: the folder {folder} is gone, with the records that the ledger says were loaded"
    return Finding(name, "UF-3003", says, f"restore {folder} from a backup")


def _writable(home: Home, folders: Iterable[Path]) -> None:
    for folder in (home.warehouse.parent, home.tmp, home.logs, home.lakehouse, *folders):
        for place in (folder, folder.parent):
            if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
                hint = "give the user that runs the suite the right to write; nothing has been written"
                raise UtilityFlowError("UF-1008", f"{place} cannot be written", hint=hint)


def _version_guard(home: Home, wrote: str) -> None:
    theirs, ours = (re.findall(r"\d+", text)[:2] for text in (wrote, __version__))
    if [int(n) for n in theirs] > [int(n) for n in ours]:
        message = f"the tables of {home.path} were written by version {wrote}, this is {__version__}; nothing was written"
        raise UtilityFlowError("UF-1009", message, hint="update the suite")


def take_up(run: Run, found: Found) -> None:
    """Have everything made anew that was derived from, or stood in, tables that are not the ones that the last run left."""
    for step, versions in list(run.consumed.items()):
        if step in found.anew or found.anew & set(versions):
            del run.consumed[step]
    for name in sorted(found.anew):
        run.say(f"{name} is not the table that the last run left and is made anew", table=name)
        layer, _, table = name.partition(".")
        if layer == "silver":
            entity = table.removesuffix("__quarantine")
            for entry in list(run.ledger.entries.values()):
                feed = run.feeds.get(entry.feed)
                if feed is not None and feed.entity == entity and entry.status == "loaded":
                    entry.status = "landed"
                    run.ledger.mark(entry)


def damaged(failure: BaseException) -> UtilityFlowError | None:
    """A failure of the engine that names a file of a table, or a write of another program, as an error of the catalogue."""
    if isinstance(failure, UtilityFlowError) or disk_refuses(failure):
        return None
    texts = list(_texts(failure))
    if any(word in type(failure).__name__ or word in text[:2000] for text in texts for word in _AT_ONCE):
        what = "another program wrote to a table while a step did"
        return UtilityFlowError("UF-3008", what, hint="utilityflow doctor names the table and the way back")
    for text in texts:
        if (match := _FILE.search(text)) and "Permission denied" not in text:
            layer, table, file = match.groups()
            message = f"{layer}.{table}: the file {file} cannot be read"
            hint = "utilityflow doctor names all damage and the way out: rebuild the table or restore it"
            return UtilityFlowError("UF-3003", message, hint=hint)
    return None


def _texts(failure: BaseException | None) -> Iterator[str]:
    while failure is not None:
        yield str(failure)
        if isinstance(failure, OSError) and failure.filename:
            yield str(failure.filename)
        failure = failure.__cause__ or failure.__context__


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """A full disk and a damaged table are told as such, whatever was about to be done."""
    try:
        yield
    except Exception as failure:
        if isinstance(failure, UtilityFlowError) or not (disk_refuses(failure) or damaged(failure)):
            raise
        raise unforeseen(what, failure) from failure


def unforeseen(step: str, failure: Exception) -> UtilityFlowError:
    """Any failure of a step as an error of the catalogue."""
    text = str(failure)
    sign = disk_refuses(failure) or ("Permission denied" if "Permission denied" in text else "")
    if sign:
        return UtilityFlowError("UF-4007", f"{step}: {sign}")
    if (told := damaged(failure)) is not None:
        return UtilityFlowError(told.code, f"{step}: {told.message}", hint=told.hint)
    # the engine's messages may quote data: only their first words and the class are shown
    first = text.splitlines()[0][:160] if text else ""
    return UtilityFlowError(
        "UF-4001", f"step {step} failed: {type(failure).__name__}: {first}", hint="run again with --debug for the trace"
    )
