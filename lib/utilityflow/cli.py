"""The command line: ``utilityflow <command> [options]``. It parses, calls one function, prints what that returned.

Results go to standard output (with ``--json`` exactly one object, also when something fails), progress and errors to
standard error. What needs Spark is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from utilityflow import __version__
from utilityflow.errors import CATALOGUE, EXIT_FAILED, EXIT_OK, UtilityFlowError, nearest

if TYPE_CHECKING:
    from utilityflow.settings import Settings

EXIT_INTERRUPTED, EXIT_PIPE = 130, 141
_FULL = {errno.ENOSPC, errno.EROFS, errno.EDQUOT}


@dataclass(frozen=True)
class Answer:
    """What a command gives: an object for ``--json``, the same for people, the exit status."""

    value: dict[str, Any]
    text: str
    exit_code: int = EXIT_OK


Command = Callable[[argparse.Namespace], Answer]


class _Parser(argparse.ArgumentParser):
    """Usage errors are errors of the catalogue, so that they too can be told as JSON."""

    def error(self, message: str) -> NoReturn:
        raise UtilityFlowError("UF-1004", message, hint=f"'{self.prog} --help' lists what can be given")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 ok, 1 failed, 2 usage, 3 gate, 4 lease, 5 integrity).

    :param arguments: words after the program's name; None takes the process's.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["demo"]:
        words = ["bench", *words]
    as_json = "--json" in words
    out = sys.stdout
    try:
        args = parser().parse_args(words)
        if args.debug:
            os.environ["UTILITYFLOW_DEBUG"] = "1"
        with contextlib.redirect_stdout(sys.stderr), _progress(args):
            answer = args.function(args)
        print(json.dumps(answer.value, default=str) if as_json else answer.text, file=out, flush=True)
        return int(answer.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python flushes at its end goes nowhere
        return EXIT_PIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as failure:
        if "--debug" in words and not isinstance(failure, UtilityFlowError):
            raise
        return _failed(_known(failure), words, as_json, out)


def _known(failure: Exception) -> UtilityFlowError:
    """The failure as an error of the catalogue, in one line."""
    if isinstance(failure, UtilityFlowError):
        return failure
    if isinstance(failure, OSError) and failure.errno in _FULL:
        return UtilityFlowError("UF-4007", f"{failure.strerror}: {failure.filename or ''}")
    # messages of libraries may quote data: only the first words are shown
    first = (str(failure).splitlines() or [""])[0][:160]
    return UtilityFlowError(
        "UF-4999", f"{type(failure).__name__}: {first}", hint="run again with --debug for the trace"
    )


def _failed(error: UtilityFlowError, words: Sequence[str], as_json: bool, out: Any) -> int:
    if as_json:
        told: dict[str, Any] = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        if words[:1] in (["run"], ["publish"]):
            told = {"run_id": None, "status": "failed", "publication": None, "files": [], "steps": []} | told
        print(json.dumps(told), file=out, flush=True)
    print(error, file=sys.stderr)
    return error.exit_code


@contextlib.contextmanager
def _progress(args: argparse.Namespace) -> Any:
    """Show the suite's log lines on standard error while the block runs."""
    from utilityflow.operate.progress import Console

    log = logging.getLogger("utilityflow")
    args.console = handler = Console(sys.stderr)
    before = log.level
    log.setLevel(logging.DEBUG if args.debug else logging.INFO)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


# -- words -----------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(prog="utilityflow", description="Spark and Delta Lake job suite for electric utilities.")
    top.add_argument("--version", action="version", version=f"utilityflow {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (text, function, more) in _COMMANDS.items():
        one = commands.add_parser(name, help=text, description=text)
        more(one)
        if name not in ("feed", "deploy"):
            _common(one, function)
    return top


def _common(one: argparse.ArgumentParser, function: Command) -> None:
    one.set_defaults(function=function)
    one.add_argument("--home", metavar="DIR", help="folder of the environment (default: UTILITYFLOW_HOME or ./var)")
    one.add_argument("--landing", metavar="DIR", help="where source files arrive (default: landing in the home)")
    one.add_argument("--feeds", metavar="DIR", help="folder of feed files instead of the shipped ones")
    one.add_argument("--time-zone", metavar="ZONE", help="the utility's zone, fixed when a home is made (default: UTC)")
    one.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    one.add_argument("--debug", action="store_true", help="show traces and more log lines")


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no date, write YYYY-MM-DD") from None


def _month(text: str) -> dt.date:
    return _day(f"{text}-01")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _run_words(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--as-of",
        type=_day,
        metavar="DATE",
        help="the day for which 'current' is said (default: today in the utility's zone)",
    )
    one.add_argument(
        "--select",
        nargs="+",
        action="extend",
        default=[],
        metavar="STEP",
        help="steps, layers or patterns: bronze, gold.dim_*; +step adds what it needs, step+ what needs it, 1+step one step far",
    )


def _whole_run_words(one: argparse.ArgumentParser) -> None:
    _run_words(one)
    one.add_argument("--rehash", action="store_true", help="read landed files again that are known by name, size and time")


def _plan_words(one: argparse.ArgumentParser) -> None:
    _run_words(one)
    one.add_argument("--graph", nargs="?", const="text", choices=("text", "mermaid"), help="only draw the steps")


def _resume_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("run_id", metavar="RUN_ID", help="the run that did not end; its as-of date and steps are kept")


def _explain_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("table", help="a gold table, for example gold.fact_usage")
    one.add_argument("key", help="its key (for a dimension also the natural key)")


def _verify_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("--quick", action="store_true", help="without judging the bronze records again")
    one.add_argument("--rebuild", metavar="DIMENSION", help="only compare this dimension with a full rebuild")
    one.add_argument("--only", nargs="+", action="extend", default=[], metavar="CHECK", help="for example history")


def _feed_words(one: argparse.ArgumentParser) -> None:
    verbs = one.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    check = verbs.add_parser("check", help="show raw beside canonical values and the first failures; writes nothing")
    check.add_argument("file", metavar="FILE.yaml")
    check.add_argument("--sample", type=_number, default=1000, metavar="N", help="records to try (default 1000)")
    _common(check, _feed_check)
    _common(verbs.add_parser("list", help="the feeds in use"), _feed_list)


def _deploy_words(one: argparse.ArgumentParser) -> None:
    verbs = one.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    render = verbs.add_parser("render", help="write the deployment files, from the declared steps")
    render.add_argument("--out", default="dist/deploy", metavar="DIR", help="where to (default: dist/deploy)")
    render.add_argument("--target", choices=("databricks", "synapse", "adf", "all"), default="all")
    render.add_argument("--conf", metavar="FILE", help="deployment settings instead of the shipped conf/deploy.yaml")
    _common(render, _deploy_render)
    check = verbs.add_parser("check", help="judge deployment files, also after changes by hand; writes nothing")
    check.add_argument("folder", metavar="DIR")
    _common(check, _deploy_check)


def _extract_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("names", nargs="*", metavar="FEED", help="feeds whose sources are asked (default: all that have one)")


def _simulate_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("what", nargs="?", choices=("files", "serve"), default="files",
                     help="write files (default), or serve service requests over HTTP until interrupted")  # fmt: skip
    one.add_argument("--customers", type=_number, default=1000, metavar="N")
    one.add_argument("--months", type=_number, default=2, metavar="N")
    one.add_argument("--start", type=_month, default=dt.date(2025, 1, 1), metavar="YYYY-MM")
    one.add_argument("--seed", type=int, default=1, metavar="N")
    one.add_argument("--only-month", type=_number, metavar="N", help="write just the files of the N-th month")
    one.add_argument("--reads-format", choices=("csv", "parquet"), default="csv")
    one.add_argument(
        "--defects", metavar="DIR", help="where the list of planted defects goes (default: defects in the home)"
    )
    one.add_argument("--systems", default="all", metavar="NAME,...", help="whose files to write (default: all six); "
                     "customer_database fills a SQLite file, service_desk a folder for 'simulate serve'")  # fmt: skip
    one.add_argument("--sources", metavar="DIR", help="where these lie (default: sources beside the landing root)")
    one.add_argument("--gas", action="store_true", help="also monthly reads of gas meters, whose registers roll over")
    one.add_argument("--interval-meters", type=_number, default=0, metavar="N", help="also N wall boxes read by the hour")
    one.add_argument("--faults", default="", metavar="KIND,...", help="operational faults of files, or all (default: none)")
    served = one.add_argument_group("simulate serve")
    served.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    served.add_argument("--port", type=int, default=8311, metavar="N", help="0 takes any that is free (default 8311)")
    served.add_argument("--records", metavar="PLACE", help="JSON lines to serve, a file or a folder of *.jsonl; "
                        "read again when they change (default: made)")  # fmt: skip
    served.add_argument("--requests", type=_number, default=1000, metavar="N", help="how many to make, by --seed")
    served.add_argument("--fault", action="append", default=[], metavar="KIND@N", help="for example 429@3, 503@2-4, slow@*")
    served.add_argument("--token", metavar="REFERENCE", help="bearer token that is asked for, as env:NAME or file:PATH")
    one.add_argument("--profile", metavar="FILE", help="which defects to plant (default: conf/simulate/defects.yaml)")


def _docs_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("--out", metavar="FILE", help="write the data dictionary there (default: print it)")


def _bench_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("name", help="the measurement")
    one.add_argument("rest", nargs=argparse.REMAINDER, help="its options")


def _maintain_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("--hours", type=_number, default=168, metavar="N", help="keep what versions of N hours need (168 or more)")
    one.add_argument("--most-gib", type=_number, default=10, metavar="N", help="arrange at most N GiB of tables in this call")


def _rollback_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("--to", type=_number, metavar="N", help="publication to go back to (default: the one before)")
    one.add_argument("--dry-run", action="store_true", help="write nothing, say what would be restored and held")


def _requeue_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("files", nargs="*", metavar="FILE", help="held files, by name under the landing root or by SHA-256")
    one.add_argument("--all", action="store_true", help="all held files")


def _status_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("--profile", action="store_true", help="what each step read, wrote, exchanged and spilled")


def _doctor_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("--deep", action="store_true", help="compare every data file with its checksums, even above 1 GiB")


def _unlock_words(one: argparse.ArgumentParser) -> None:
    one.add_argument("--force", action="store_true", help="also from a living holder, which then refuses to write")


def _no_words(_: argparse.ArgumentParser) -> None:
    return None


# -- commands --------------------------------------------------------------------------------------------------------


def _settings(args: argparse.Namespace) -> Settings:
    from utilityflow.settings import load_settings

    return load_settings({"home": args.home, "landing": args.landing, "feeds": args.feeds, "time_zone": args.time_zone})


def _run(args: argparse.Namespace) -> Answer:
    from utilityflow import pipeline
    from utilityflow.operate import summary
    from utilityflow.operate.progress import expectation

    settings = _settings(args)
    args.console.expected = expectation(settings.home_path / "logs")
    result = pipeline.run(settings, as_of=args.as_of, wanted=args.select, rehash=getattr(args, "rehash", False))
    error = result["error"]
    if error:
        print(
            f"{error['code']}: {error['message']}" + (f" ({error['hint']})" if error["hint"] else ""), file=sys.stderr
        )
    code = CATALOGUE[error["code"]].exit_code if error else EXIT_OK
    return Answer(result, "" if args.json else summary.text(settings, result), code)


def _resume(args: argparse.Namespace) -> Answer:
    from utilityflow.control.home import open_home
    from utilityflow.control.run import asked_for

    args.as_of, args.select = asked_for(open_home(_settings(args), create=False), args.run_id)
    return _run(args)


def _publish(args: argparse.Namespace) -> Answer:
    args.as_of, args.select = None, ["publish"]
    return _run(args)


def _plan(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import plan

    if args.graph:
        drawn = plan.graph(_settings(args), args.graph, args.select)
        return Answer({"graph": drawn, "form": args.graph}, drawn)
    result = plan.plan(_settings(args), args.as_of, args.select)
    return Answer(result, plan.text(result))


def _status(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import status

    result = status.status(_settings(args))
    return Answer(result, status.text(result, profile=args.profile))


def _explain(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import explain

    result = explain.explain(_settings(args), args.table, args.key)
    return Answer(result, explain.text(result))


def _verify(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import verify

    result = verify.verify(_settings(args), quick=args.quick, rebuild=args.rebuild, only=args.only)
    return Answer(result, verify.text(result), verify.exit_code(result))


def _doctor(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import doctor

    result = doctor.doctor(_settings(args), deep=args.deep)
    return Answer(result, doctor.text(result), doctor.exit_code(result))


def _maintain(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import maintain

    result = maintain.maintain(_settings(args), hours=args.hours, most_bytes=args.most_gib * 1024**3)
    return Answer(result, maintain.text(result))


def _rollback(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import rollback

    result = rollback.rollback(_settings(args), args.to, only_show=args.dry_run)
    return Answer(result, rollback.text(result))


def _requeue(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import rollback

    if bool(args.files) == args.all:
        raise UtilityFlowError("UF-1004", "name the files, or give --all", hint="'utilityflow status' lists held files")
    result = rollback.requeue(_settings(args), args.files, everything=args.all)
    return Answer(result, rollback.requeue_text(result))


def _unlock(args: argparse.Namespace) -> Answer:
    from utilityflow.control.home import open_home
    from utilityflow.control.lease import unlock

    said = unlock(open_home(_settings(args), create=False).path, force=args.force)
    return Answer({"unlock": said}, said)


def _feed_check(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import feedcheck

    result = feedcheck.check(_settings(args), Path(args.file), args.sample)
    return Answer(result, feedcheck.text(result), EXIT_OK if result["ok"] else EXIT_FAILED)


def _feed_list(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import feedcheck

    result = feedcheck.listing(_settings(args))
    return Answer(result, feedcheck.listing_text(result))


def _deploy_render(args: argparse.Namespace) -> Answer:
    from utilityflow.operate.deploy import deploy

    conf = Path(args.conf) if args.conf else None
    result = deploy.render(_settings(args), parser(), out=Path(args.out), target=args.target, conf=conf)
    return Answer(result, deploy.text(result))


def _deploy_check(args: argparse.Namespace) -> Answer:
    from utilityflow.operate.deploy import deploy

    result = deploy.check(_settings(args), parser(), Path(args.folder))
    return Answer(result, deploy.text(result), deploy.exit_code(result))


def _extract(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import extracts

    result = extracts.extract(_settings(args), args.names)
    return Answer(result, extracts.text(result), extracts.exit_code(result))


def _serve(args: argparse.Namespace) -> Answer:
    from utilityflow.settings import resolve_secret
    from utilityflow.simulate.serve import serve

    token = resolve_secret(args.token) if args.token else None
    file = Path(args.records) if args.records else None
    server = serve(host=args.host, port=args.port, records=file, count=args.requests, seed=args.seed, faults=args.fault,
                   token=token)  # fmt: skip
    _tell(f"serving {len(server.desk.now()):,} service requests at {server.address}, until interrupted")
    with contextlib.suppress(KeyboardInterrupt), server:
        server.wait()
    asked = len(server.desk.asked)
    return Answer({"address": server.address, "asked": asked}, f"{asked:,} request(s) were answered")


def _simulate(args: argparse.Namespace) -> Answer:
    import dataclasses

    if args.what == "serve":
        return _serve(args)

    from utilityflow.operate.scene import open_session
    from utilityflow.simulate import SYSTEMS, simulate
    from utilityflow.strict import load

    settings = _settings(args)
    systems = SYSTEMS if args.systems == "all" else [name.strip() for name in args.systems.split(",") if name.strip()]
    profile = load(Path(args.profile).read_text("utf-8"), args.profile).plain() if args.profile else None
    made = simulate(
        open_session(settings),
        landing=settings.landing_path,
        defects=Path(args.defects) if args.defects else settings.home_path / "defects",
        customers=args.customers,
        months=args.months,
        start=args.start,
        seed=args.seed,
        only_month=args.only_month,
        reads_format=args.reads_format,
        profile=profile,
        time_zone=settings.time_zone or "America/New_York",
        faults=args.faults.split(","),
        gas=args.gas,
        interval_meters=args.interval_meters,
        systems=systems,
        sources=Path(args.sources) if args.sources else None,
        progress=_tell,
    )
    rows = ", ".join(f"{n:,} records of {feed}" for feed, n in made.rows.items())
    base = "".join(f" and {place}" for place in (made.database, made.desk) if place)
    return Answer(dataclasses.asdict(made), f"{len(made.files)} files under {settings.landing_path}{base}: {rows}")


def _docs(args: argparse.Namespace) -> Answer:
    from utilityflow.operate import dictionary

    text = dictionary.markdown()
    if args.out:
        Path(args.out).write_text(text, encoding="utf-8")
    said = f"wrote {args.out}" if args.out else text
    return Answer({"out": args.out, "tables": dictionary.tables()}, said)


def _bench(args: argparse.Namespace) -> Answer:
    """A measurement is a function ``utilityflow.bench.<name>.<name>(settings, *, <options>)``; so are its options."""
    import importlib
    import pkgutil

    from utilityflow import bench

    name = args.name.replace("-", "_")
    known = sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_"))
    if name not in known:
        raise UtilityFlowError("UF-1004", f"there is no measurement '{args.name}'", hint=nearest(args.name, known))
    module = importlib.import_module(f"utilityflow.bench.{name}")
    measure = getattr(module, name)
    options = _bench_options(args.name, measure, args.rest)
    result = measure(_settings(options), **{n: v for n, v in options.measured.items()})
    shown = getattr(module, "summary", None)
    return Answer(result, shown(result) if shown else json.dumps(result, indent=2, default=str))


def _bench_options(name: str, measure: Callable[..., Any], words: Sequence[str]) -> argparse.Namespace:
    """Parse a measurement's options: its keyword-only parameters; ``tell`` takes progress lines."""
    import inspect
    import typing

    one = _Parser(prog=f"utilityflow bench {name}", description=inspect.getdoc(measure))
    _common(one, _bench)
    kinds = typing.get_type_hints(measure)
    own = {n: p for n, p in inspect.signature(measure).parameters.items() if p.kind is p.KEYWORD_ONLY and n != "tell"}
    for option, p in own.items():
        one.add_argument(
            f"--{option.replace('_', '-')}", type=kinds[option], default=p.default, metavar="N", dest=option
        )
    options = one.parse_args(list(words))
    options.measured = {n: getattr(options, n) for n in own}
    if "tell" in inspect.signature(measure).parameters:
        options.measured["tell"] = _tell
    return options


def _tell(message: str, **_: Any) -> None:
    logging.getLogger("utilityflow").info(message)


_COMMANDS: dict[str, tuple[str, Command, Callable[[argparse.ArgumentParser], None]]] = {
    "plan": ("what a run would do; touches nothing", _plan, _plan_words),
    "run": ("bring the lakehouse and the warehouse up to what has landed", _run, _whole_run_words),
    "resume": ("do what a run that did not end had been asked for", _resume, _resume_words),
    "publish": ("publish what the gold tables hold now", _publish, _no_words),
    "status": ("last runs, last publication, files, quarantine", _status, _status_words),
    "explain": ("lead a gold row back to its files and lines", _explain, _explain_words),
    "verify": ("check the invariants on the live lakehouse", _verify, _verify_words),
    "doctor": ("check the environment and the tables' files", _doctor, _doctor_words),
    "maintain": ("few large files instead of many small ones; remove files that nothing needs", _maintain, _maintain_words),
    "rollback": ("go back to an earlier publication, warehouse and lakehouse", _rollback, _rollback_words),
    "requeue": ("let files that a rollback holds be taken again", _requeue, _requeue_words),
    "unlock": ("take the home's lease away from a holder that is dead, by force from any", _unlock, _unlock_words),
    "feed": ("check or list feed files", _feed_list, _feed_words),
    "deploy": ("deployment files for Databricks, Synapse and Azure Data Factory", _deploy_render, _deploy_words),
    "extract": ("ask the sources of feeds that have one, and land what is new; loads nothing", _extract, _extract_words),
    "simulate": ("write source files of a simulated utility, or serve them over HTTP", _simulate, _simulate_words),
    "docs": ("the data dictionary as Markdown", _docs, _docs_words),
    "demo": ("simulate two months, run month by month, print a summary", _bench, _no_words),
    "bench": ("a measurement: demo, nothing-new, ...", _bench, _bench_words),
}

if __name__ == "__main__":
    sys.exit(main())
