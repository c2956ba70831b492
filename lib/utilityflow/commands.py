"""What the commands do: each takes its parsed words, calls one function of the suite, and gives an answer.

What needs Spark is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utilityflow.errors import CATALOGUE, EXIT_FAILED, EXIT_OK, UtilityFlowError, nearest
from utilityflow.words import Parser, common

if TYPE_CHECKING:
    from utilityflow.settings import Settings


@dataclass(frozen=True)
class Answer:
    """What a command gives: an object for ``--json``, the same for people, the exit status."""

    value: dict[str, Any]
    text: str
    exit_code: int = EXIT_OK


Command = Callable[[argparse.Namespace], Answer]


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


def _feed(args: argparse.Namespace) -> Answer:
    return _feed_check(args) if args.verb == "check" else _feed_list(args)


def _deploy_render(args: argparse.Namespace) -> Answer:
    from utilityflow.operate.deploy import deploy

    conf = Path(args.conf) if args.conf else None
    result = deploy.render(_settings(args), args.parser, out=Path(args.out), target=args.target, conf=conf)
    return Answer(result, deploy.text(result))


def _deploy_check(args: argparse.Namespace) -> Answer:
    from utilityflow.operate.deploy import deploy

    result = deploy.check(_settings(args), args.parser, Path(args.folder))
    return Answer(result, deploy.text(result), deploy.exit_code(result))


def _deploy(args: argparse.Namespace) -> Answer:
    return _deploy_render(args) if args.verb == "render" else _deploy_check(args)


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

    one = Parser(prog=f"utilityflow bench {name}", description=inspect.getdoc(measure))
    common(one)
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


# command -> what its help says, and what does it
COMMANDS: Mapping[str, tuple[str, Command]] = {
    "plan": ("what a run would do; touches nothing", _plan),
    "run": ("bring the lakehouse and the warehouse up to what has landed", _run),
    "resume": ("do what a run that did not end had been asked for", _resume),
    "publish": ("publish what the gold tables hold now", _publish),
    "status": ("last runs, last publication, files, quarantine", _status),
    "explain": ("lead a gold row back to its files and lines", _explain),
    "verify": ("check the invariants on the live lakehouse", _verify),
    "doctor": ("check the environment and the tables' files", _doctor),
    "maintain": ("few large files instead of many small ones; remove files that nothing needs", _maintain),
    "rollback": ("go back to an earlier publication, warehouse and lakehouse", _rollback),
    "requeue": ("let files that a rollback holds be taken again", _requeue),
    "unlock": ("take the home's lease away from a holder that is dead, by force from any", _unlock),
    "feed": ("check or list feed files", _feed),
    "deploy": ("deployment files for Databricks, Synapse and Azure Data Factory", _deploy),
    "extract": ("ask the sources of feeds that have one, and land what is new; loads nothing", _extract),
    "simulate": ("write source files of a simulated utility, or serve them over HTTP", _simulate),
    "docs": ("the data dictionary as Markdown", _docs),
    "demo": ("simulate a month of six systems (--months 2: two, run one by one), run it, print a summary", _bench),
    "bench": ("a measurement: demo, nothing-new, ...", _bench),
}
