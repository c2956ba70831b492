"""The walks that faults are tested on: the runs of the scenario given_facts_before_customers, and a death in mid-run.

Run 1 is the first; 2 new customers take over inferred members (an ordinary run), 3 late events, 4 a file that supersedes;
5 is a rollback of that, which the next run ends. The walk ``systems`` is the second run of another story, in which bills,
payments, requests, service points and outages land beside each other, accounts, agreements, meters and an audit trail as shipped
feeds read them, and the register of filings as the simulator writes it, so that their dimensions, facts and marts are made.
"""

from __future__ import annotations

import datetime as dt
import gc
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utilityflow import lakehouse, pipeline
from utilityflow.operate import rollback as way_back
from utilityflow.settings import Settings
from utilityflow.simulate.almanac import Almanac
from utilityflow.simulate.defects import load_profile
from utilityflow.simulate.model import Utility
from utilityflow.simulate.pools import load_pools
from utilityflow.simulate.regulatory import write_regulatory

SCENARIO = Path(__file__).parents[1] / "scenarios" / "given_facts_before_customers"
FEEDS = SCENARIO.parent / "feeds"
AS_OF = dt.date(2025, 2, 1)
WALKS = {"ordinary": 2, "late": 3, "superseding": 4, "rollback": 5, "systems": 2}
SYSTEMS = [
    *(SCENARIO.parent / name for name in ("given_payments_before_customers", "given_a_network_with_outages")),
    Path(__file__).parent / "systems",  # what the shipped feeds below read, but for the filings
]
SHIPPED = [
    Path(__file__).parents[2] / "conf" / "feeds" / f"{name}.yaml"
    for name in ("examples/accounts/accounts", "examples/accounts/service_agreements", "examples/assets/meters", "reg_filings",
                 "reg_audit")
]  # fmt: skip
SETTINGS_OF_A_WRITE = (
    "spark.databricks.delta.write.txnAppId", "spark.databricks.delta.write.txnVersion",
    "spark.databricks.delta.commitInfo.userMetadata",
)  # fmt: skip


def settings(home: Path) -> Settings:
    own = home / "feeds"
    return Settings(home=str(home), feeds=str(own if own.is_dir() else FEEDS), time_zone="UTC")


def as_of(home: Path) -> dt.date:
    return dt.date(2025, 4, 2) if (home / "feeds").is_dir() else AS_OF


def lay_feeds(home: Path, scenarios: Sequence[Path] = SYSTEMS) -> None:
    """The feeds of a story of several systems."""
    for scenario in scenarios:
        if (scenario / "feeds").is_dir():
            shutil.copytree(scenario / "feeds", home / "feeds", dirs_exist_ok=True)
    for feed in SHIPPED:
        shutil.copy(feed, home / "feeds")


def land(home: Path, run: int, scenarios: Sequence[Path] = (SCENARIO,)) -> None:
    for scenario in scenarios:
        source = scenario / "when" / str(run)
        if source.is_dir():
            shutil.copytree(source, home / "landing", dirs_exist_ok=True)
    if len(scenarios) > 1:
        land_filings(home, run)


def land_filings(home: Path, run: int) -> None:
    """The register of filings, a workbook for each run; its audit trail, of thousands of events, stays behind."""
    utility = Utility(7, 50, Almanac(7, dt.date(2025, 2, 1), run, "America/New_York"), load_pools())
    with tempfile.TemporaryDirectory() as aside:
        made, ledger = Path(aside) / "landing", Path(aside) / "defects"
        write_regulatory(utility, range(run - 1, run), load_profile({}), made, ledger, lambda _: None)
        shutil.copytree(made / "reg_filings", home / "landing" / "reg_filings", dirs_exist_ok=True)


def walked(home: Path, walk: str) -> bool:
    """Do what the walk does; whether it went well."""
    if walk == "rollback":
        return bool(way_back.rollback(settings(home))["publication"])
    return pipeline.run(settings(home), as_of=as_of(home))["error"] is None


@dataclass
class Story:
    """The walk as nobody disturbs it, run by run as it is asked for: homes before and after, and the points passed."""

    folder: Path
    scenarios: Sequence[Path] = (SCENARIO,)
    before: dict[int, Path] = field(default_factory=dict)  # the run's files have landed
    after: dict[int, Path] = field(default_factory=dict)
    points: dict[int, list[str]] = field(default_factory=dict)  # in their order

    def tell(self, until: int) -> Story:
        """Have all runs up to this one done. Who uses the homes copies them."""
        names = {WALKS["rollback"]: "rollback"}
        for number in range(len(self.after) + 1, until + 1):
            home = self.folder / str(number)
            if number > 1:
                shutil.copytree(self.after[number - 1], home)
            elif len(self.scenarios) > 1:
                lay_feeds(home, self.scenarios)
            land(home, number, self.scenarios)
            self.before[number] = shutil.copytree(home, self.folder / f"before-{number}")
            log = self.folder / f"points-{number}"
            lakehouse._POINTS = lakehouse.CrashPoints()
            os.environ["UF_CRASH_LOG"] = str(log)
            try:
                assert walked(home, names.get(number, "run")), f"run {number} of the walk failed without being killed"
            finally:
                del os.environ["UF_CRASH_LOG"]
            self.after[number] = home
            self.points[number] = [line.split(" ", 1)[1] for line in log.read_text().splitlines()]
        return self


def killed(spark: Any, work: Callable[[], Any], **environment: str) -> int:
    """The wait status of a fork that does the work with these variables set (9: it died where it was told to)."""
    gc.collect()
    gc.freeze()  # a fork must not release Java objects of its parent
    first = _next_object(spark)
    child = os.fork()
    if not child:
        lakehouse._POINTS = lakehouse.CrashPoints()
        os.environ.update(environment)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    gc.unfreeze()
    spark.sparkContext.cancelAllJobs()  # in life Spark's process dies too, with what the dead one held of Java
    for number in range(first, _next_object(spark)):
        spark._jvm._gateway_client.garbage_collect_object(f"o{number}", False)
    for name in SETTINGS_OF_A_WRITE:
        spark.conf.unset(name)
    return status


def _next_object(spark: Any) -> int:
    """The JVM numbers what Python asks for; the number that comes next."""
    return int(spark._jvm.java.lang.Object()._target_id[1:]) + 1
