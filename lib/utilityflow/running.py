"""The runner: steps run as soon as their inputs are there, then what they made is published and the run tables tell of it.

It takes the steps as they are given; which there are says ``pipeline``.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from utilityflow import __version__, upkeep
from utilityflow import graph as graph_of
from utilityflow.bronze.feeds import Feed
from utilityflow.bronze.ingest import recover
from utilityflow.bronze.inspect import find_files
from utilityflow.control.home import Home
from utilityflow.control.ledger import Entry, Ledger, write_ledger
from utilityflow.control.profile import profiled
from utilityflow.control.publication import last as last_publication
from utilityflow.control.run import Run, StepResult
from utilityflow.control.soundness import Found, cause, damaged, look_again, telling, unforeseen
from utilityflow.errors import UtilityFlowError
from utilityflow.extract.steps import SOURCE_CODES, source_failure
from utilityflow.graph import EXTRACT, PUBLISH, Step
from utilityflow.lakehouse import Lakehouse
from utilityflow.parallel import in_parallel, when_ready
from utilityflow.publish.publication import GIVEN_UP, ON_COPY, Prepared, finish, prepare
from utilityflow.session import by_connect, fit_to, local_frame
from utilityflow.settings import Settings

log = logging.getLogger("utilityflow")
# failures that are a gold step's own: other branches go on (decision 017). Damage, a full disk, a lost lease stop the run
OF_ONE_STEP = frozenset({"UF-3004", "UF-3005", "UF-4001"})
# figures of the step that publishes, 1 or 0: in which way the target was built
BUILT = {"built_on_copy": ON_COPY, "copy_given_up": GIVEN_UP}


def run_steps(state: Run, steps: Sequence[Step], published: Sequence[str] | None, found: Found) -> dict[str, Any]:
    """Run the steps and publish; returns the object that ``run --json`` prints (DESIGN.md section 10).

    :param steps: in an order in which inputs come before outputs.
    :param published: the gold tables to publish; None: nothing is.
    :param found: what stood when the run began.
    """
    before = _snapshot_counts(state.ledger)
    error: UtilityFlowError | None = None
    outcome: Prepared | None = None
    number: int | None = None
    try:
        recover(state)
        for contract in state.house.contracts.of_layer("ops"):  # a run adds a file to each
            _tidied(state, contract.name)
        for wave in graph_of.waves(steps, apart=not by_connect(state.house.spark)):
            members = {step.name: step for step in steps if step.name in wave}
            when_ready(state.house.spark, partial(_run_member, state, members), wave)
            if any(name.startswith(f"{EXTRACT}.") for name in wave):  # more may have landed than the session was set for
                fit_to(state.house.spark, state.settings, size(state.settings, state.home, state.feeds))
        _check_threshold(state)
        if published is not None:
            with telling(PUBLISH):
                outcome = _prepare(state, published)
        note = found.note(look_again(state.home, found))
        _finish_ops(state, _status(state, outcome), outcome, _told(state), note)
        if outcome is not None:
            number = finish(outcome).publication.number
    except UtilityFlowError as failure:
        error = _beside(cause(state.home, found, failure), _told(state))
    except OSError as failure:
        error = damaged(failure) if isinstance(failure, FileNotFoundError) else None
        error = error or UtilityFlowError("UF-4007", f"{failure.strerror or failure}: {failure.filename or ''}")
        error = _beside(error, _told(state))
    place = {step.name: number for number, step in enumerate(steps)}
    state.steps.sort(key=lambda done: place.get(done.step, len(place)))
    if error is not None:
        state.say(f"failed: {error}", code=error.code)
        _finish_failed(state, error, found)
    last = number if number is not None else _published_number(state)
    return _answer(state, "failed" if error else _status(state, outcome), last, error or _told(state), before)


def _status(state: Run, outcome: Prepared | None) -> str:
    if state.broken:
        return "failed"
    return "succeeded" if outcome or any(s.status == "ok" for s in state.steps) else "nothing_to_do"


def _told(state: Run) -> UtilityFlowError | None:
    """What a run that came to its end tells of steps and sources that failed."""
    if not state.broken:
        return source_failure(state.failed)
    first = next(iter(state.broken.values()))
    message = f"{first.message} (left as they were: {', '.join(sorted(state.broken))})"
    return UtilityFlowError(first.code, message, hint=first.hint)


def size(settings: Settings, home: Home, feeds: Mapping[str, Feed]) -> int:
    """Bytes of landed files and of the lakehouse, as far as they matter for ``fit_to``."""
    if not settings.spark.small_bytes:
        return 1
    return _landed(settings, feeds.values()) + home.data_bytes(settings.spark.small_bytes)


def _size_of(state: Run, step: Step) -> int:
    """Bytes of what a step reads and of the table that it writes, as far as they matter for ``fit_to``."""
    bound = state.settings.spark.small_bytes
    if not bound:
        return 1
    landed = [feed for name, feed in state.feeds.items() if f"landing.{name}" in step.inputs]
    tables = [name for name in (*step.inputs, step.output) if not name.startswith("landing.")]
    return _landed(state.settings, landed) + state.home.data_bytes(bound, tables)


def _landed(settings: Settings, feeds: Iterable[Feed]) -> int:
    if not settings.landing_path.is_dir():
        return 0
    files = (path for feed in feeds for path in find_files(feed, settings.landing_path))
    return sum(path.stat().st_size for path in files if path.exists())


def _beside(error: UtilityFlowError, told: UtilityFlowError | None) -> UtilityFlowError:
    """What ended a run, with what had failed in it before.

    :param told: as ``_told`` gives it.
    """
    if told is None or told is error:
        return error
    if error.code == "UF-4002":  # a held table needs what has moved
        return UtilityFlowError(told.code, f"{told.message}; nothing was published: {error.message}", hint=told.hint)
    return UtilityFlowError(error.code, f"{error.message}; before that {told.code}: {told.message}", hint=error.hint)


def _run_member(state: Run, members: Mapping[str, Step], name: str) -> None:
    """One of the steps of a wave, where it can be had in a session of its own, set for what it reads and writes."""
    step, house = members[name], state.house.apart()
    if house.spark is not state.house.spark and state.settings.platform == "local":
        fit_to(house.spark, state.settings, _size_of(state, step))
    _run_step(replace(state, house=house), step)


def _run_step(state: Run, step: Step) -> None:
    began = time.monotonic()
    if behind := [name for name in step.inputs if name in state.broken]:
        state.broken[step.output] = state.broken[behind[0]]
        state.steps.append(StepResult(step.name, "skipped"))
        state.say(f"{step.name}: not run, as {', '.join(behind)} failed", step=step.name)
        return
    try:
        with profiled(state.house.spark, f"{state.run_id} {step.name}") as profile:
            result = step.function(state)
            if result.status == "ok":
                result = replace(result, version=_tidied(state, step.output) or result.version)
                if step.output.startswith("silver."):
                    _tidied(state, f"{step.output}__quarantine")
    except Exception as failed:
        state.steps.append(StepResult(step.name, "failed", seconds=time.monotonic() - began))
        if step.name.startswith(f"{EXTRACT}.") and isinstance(failed, UtilityFlowError) and failed.code in SOURCE_CODES:
            name = step.name.partition(".")[2]
            state.failed[name] = failed
            state.say(f"{step.name} failed, the other feeds go on: {failed}", step=step.name, feed=name, code=failed.code)
            return
        told = failed if isinstance(failed, UtilityFlowError | OSError) else unforeseen(step.name, failed)
        debug = bool(os.environ.get("UTILITYFLOW_DEBUG"))
        if step.name.startswith("gold.") and isinstance(told, UtilityFlowError) and told.code in OF_ONE_STEP:
            if debug:
                log.exception("%s failed", step.name)
            state.broken[step.output] = told
            state.say(f"{step.name} failed, what does not need it goes on: {told}", step=step.name, code=told.code)
            return
        if told is failed or debug:
            raise
        raise told from failed
    seconds = time.monotonic() - began
    state.steps.append(replace(result, step=step.name, seconds=seconds, profile=profile))
    if result.status != "skipped":
        state.say(
            f"{step.name}: {result.rows_written:,} rows in {seconds:.1f} s",
            step=step.name,
            rows=result.rows_written,
            seconds=round(seconds, 3),
        )


def _tidied(state: Run, name: str) -> int | None:
    """Arrange a table's files where many small ones have come together; the version that it has then, None if it did not."""
    table = state.house.table(name) if name in state.house.contracts else None
    count = upkeep.tidy(table) if table is not None and table.exists() else 0
    if table is None or not count:
        return None
    state.say(f"{name}: {count} small files are few now", step=name)
    return table.version()


def _check_threshold(state: Run) -> None:
    bound = state.settings.thresholds.max_quarantined_share
    if bound is None:
        return
    touched = [e for e in state.ledger.changed.values() if e.status == "loaded"]
    read, bad = sum(e.rows_read for e in touched), sum(e.rows_quarantined for e in touched)
    if read and bad / read > bound:
        raise UtilityFlowError(
            "UF-4003", f"{bad} of {read} rows were quarantined, the threshold is {bound:.2%}; nothing was published"
        )


def failed_last(house: Lakehouse) -> set[str]:
    """Steps that failed when they were done last."""
    rows = house.table("ops.step").read().where("consumed <> '{}' OR status = 'failed'").select("step", "status", "finished_at")
    newest = {r["step"]: r["status"] for r in sorted(rows.collect(), key=lambda r: r["finished_at"])}
    return {step for step, status in newest.items() if status == "failed"}


def _held(state: Run, names: Iterable[str]) -> set[str]:
    """Of the tables to publish, those whose step failed, in this run or in the one that did it last."""
    elsewhere = set(names) - {done.step for done in state.steps}
    return set(state.broken) | (elsewhere & failed_last(state.house) if elsewhere else set())


def _prepare(state: Run, names: Sequence[str]) -> Prepared | None:
    began = time.monotonic()
    try:
        with profiled(state.house.spark, f"{state.run_id} {PUBLISH}") as profile:
            outcome = prepare(state.house, state.home.path, names, as_of=state.as_of, zone=state.zone, run_id=state.run_id,
                              memory=state.settings.publish_memory, held=_held(state, names), progress=state.say)  # fmt: skip
    except Exception as failed:
        if not (isinstance(failed, UtilityFlowError) and failed.code == "UF-4002"):  # held back, which is no failure of its own
            state.steps.append(StepResult(PUBLISH, "failed", seconds=time.monotonic() - began))
        raise
    status = "ok" if outcome else "skipped"
    rows = sum(outcome.loaded.values()) if outcome else 0
    if outcome:  # both are 0 where it was built from nothing at once
        state.metrics += [(PUBLISH, name, float(outcome.way == way)) for name, way in BUILT.items()]
    state.steps.append(StepResult(PUBLISH, status, rows, time.monotonic() - began, profile=profile))
    return outcome


# -- the run tables --------------------------------------------------------------------------------------------------


def _finish_ops(state: Run, status: str, outcome: Prepared | None, error: UtilityFlowError | None,
                note: Mapping[str, Any]) -> None:  # fmt: skip
    """Commit the ops rows, once per table; a run with nothing to do leaves only its run and step rows.

    :param note: what the next run is to find, beside the row in ``ops.run``.
    """
    house, spark = state.house, state.house.spark
    finished = dt.datetime.now(dt.timezone.utc)
    number = outcome.publication.number if outcome else _published_number(state)
    rows: dict[str, list[tuple[Any, ...]]] = {
        "ops.run": [run_row(state, "run", status, number, str(error) if error else None)],
        "ops.step": [(state.run_id, s.step, s.status, s.rows_written, s.seconds, s.version,
                      json.dumps(dict(s.consumed), sort_keys=True), finished, *s.profile.values) for s in state.steps],
        "ops.metric": [(state.run_id, s, n, v) for s, n, v in state.metrics],
        "ops.quality_result": [(state.run_id, t.table, t.rule, t.dimension, t.severity, t.evaluated, t.failed) for t in state.tallies],  # noqa: E501
    }  # fmt: skip
    jobs: list[Callable[[], Any]] = [lambda: write_ledger(house, state.ledger, state.run_id)]
    for name, values in rows.items():
        if values:
            frame = local_frame(spark, values, house.table(name).contract.struct())
            told = note if name == "ops.run" else None
            jobs.append(lambda n=name, f=frame, t=told: house.table(n).append(f, note=t))  # type: ignore[misc]
    in_parallel(spark, lambda job: job(), jobs, workers=len(jobs))


def run_row(state: Run, command: str, status: str, number: int | None, message: str | None = None) -> tuple[Any, ...]:
    """A row of ``ops.run`` for what ends now."""
    started, finished = dt.datetime.fromtimestamp(state.started, dt.timezone.utc), dt.datetime.now(dt.timezone.utc)
    return (state.run_id, command, status, state.as_of, state.zone, started, finished, __version__,
            state.house.spark.version, number, message)  # fmt: skip


def _finish_failed(state: Run, error: UtilityFlowError, found: Found) -> None:
    """A failed run leaves its rows too; the ledger stays as it was, so that the next run does the work again."""
    state.ledger.changed.clear()
    try:
        _finish_ops(state, "failed", None, error, found.note(found.heads))
    except Exception as second:  # the first error is the one to tell
        state.say(f"the run tables could not be written: {type(second).__name__}")


def _published_number(state: Run) -> int | None:
    publication = last_publication(state.house)
    return publication.number if publication else None


def _snapshot_counts(ledger: Ledger) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {key: (e.status, *e.counts) for key, e in ledger.entries.items()}


def _answer(
    state: Run, status: str, number: int | None, error: UtilityFlowError | None, before: Mapping[Any, Any]
) -> dict[str, Any]:
    files = []
    listed: set[tuple[str, str]] = set()
    for (feed, name, sha), told in state.files.items():
        entry = state.ledger.entries.get((feed, sha))
        final = told["status"]
        if entry is not None and entry.status == "rejected":
            final = "rejected"
        elif (
            entry is not None
            and final == "skipped"
            and before.get((feed, sha)) not in (None, (entry.status, *entry.counts))
        ):
            final = "loaded"
        # two files of one bad content share an entry, so each is told its own reason
        reason = told.get("reason") or (entry.reason if entry is not None and entry.status == "rejected" else None)
        # a snapshot's content that came again: its records are counted where they came first
        uncounted = final in ("skipped", "rejected") or told.get("again")
        files.append(_file(feed, name, sha, final, None if uncounted else entry, reason))
        listed.add((feed, sha))
    for key, entry in state.ledger.entries.items():
        if key not in listed and key in before and before[key] != (entry.status, *entry.counts):
            files.append(
                _file(
                    entry.feed,
                    entry.file_name,
                    entry.sha256,
                    "superseded" if not entry.stands else "loaded",
                    entry,
                    entry.reason,
                )
            )
    files.sort(key=lambda f: (f["feed"], f["file"]))
    told_error = None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}
    return {"run_id": state.run_id, "status": status, "publication": number, "files": files,
            "steps": [s.as_json() for s in state.steps], "error": told_error}  # fmt: skip


def _file(feed: str, name: str, sha: str, status: str, entry: Entry | None, reason: str | None) -> dict[str, Any]:
    read, loaded, quarantined, superseded, duplicate = entry.counts if entry else (0, 0, 0, 0, 0)
    return {"feed": feed, "file": name, "sha256": sha, "status": status, "rows_read": read, "rows_loaded": loaded,
            "rows_quarantined": quarantined, "rows_superseded": superseded, "rows_duplicate": duplicate, "reason": reason}  # fmt: skip  # noqa: E501
