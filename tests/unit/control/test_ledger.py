"""The ledger's decisions: what is new, what supersedes, what is skipped, and what stands after a refusal."""

from __future__ import annotations

import copy
import datetime as dt

from utilityflow.control.ledger import Decision, Entry, Ledger

FEED = "crm"


class Deliveries:
    """A ledger and how files arrive at it; every file that is taken in is loaded with two rows at once."""

    def __init__(self, *, append: bool = False) -> None:
        self.ledger, self.append, self.clock = Ledger(), append, 0

    def bring(self, name: str, content: str, *, reason: str | None = None, load: bool = True) -> Decision:
        self.clock += 1
        decision, entry, _ = self.ledger.arrive(
            FEED, name, content, len(content), self.clock, "d", append=self.append, reason=reason
        )
        if entry.status == "landed" and load:
            entry.status, entry.rows_read, entry.rows_loaded = "loaded", 2, 2
        return decision

    def entry(self, content: str) -> Entry:
        return self.ledger.entries[FEED, content]

    @property
    def standing(self) -> list[str]:
        return [e.sha256 for e in self.ledger.standing([FEED])]


def test_new_content_is_loaded_and_the_same_content_under_another_name_is_skipped() -> None:
    d = Deliveries()
    assert [d.bring("a", "x"), d.bring("b", "x"), d.bring("c", "y")] == ["loaded", "skipped", "loaded"]
    assert d.entry("x").names == {"a", "b"}
    assert d.standing == ["x", "y"]


def test_changed_content_under_a_known_name_supersedes_when_no_other_name_holds_the_old() -> None:
    d = Deliveries()
    d.bring("a", "x")
    assert d.bring("a", "y") == "superseding"
    assert (d.entry("x").status, d.entry("x").counts) == ("leaving", (2, 0, 0, 2, 0))
    d.bring("b", "y")
    assert d.bring("a", "z") == "loaded"  # b still holds y
    assert d.standing == ["y", "z"]


def test_superseded_content_delivered_again_supersedes_in_turn() -> None:
    d = Deliveries()
    assert [d.bring("a", "x"), d.bring("a", "y"), d.bring("a", "x")] == ["loaded", "superseding", "superseding"]
    assert d.standing == ["x"]
    assert d.entry("x").number > d.entry("y").number


def test_with_append_the_old_goes_on_standing_beside_the_new() -> None:
    d = Deliveries(append=True)
    assert [d.bring("a", "x"), d.bring("a", "y"), d.bring("a", "x")] == ["loaded", "loaded", "skipped"]
    assert d.standing == ["x", "y"]


def test_bad_content_under_a_known_name_leaves_what_stood() -> None:
    d = Deliveries()
    d.bring("a", "x")
    assert d.bring("a", "bad", reason="UF-2005: a: open") == "rejected"
    assert d.standing == ["x"]
    assert d.bring("a", "bad") == "superseding"  # after the feed file was corrected
    assert d.standing == ["bad"]


def test_a_refusal_gives_back_what_was_superseded() -> None:
    d = Deliveries()
    d.bring("a", "x")
    d.bring("b", "x2")
    assert d.bring("a", "y", load=False) == "superseding"
    d.entry("y").status = "rejected"
    assert [e.sha256 for e in d.ledger.reinstate(d.entry("y"))] == ["x"]
    # landed: silver counts its rows again
    assert (d.entry("x").status, d.entry("x").counts, d.entry("x").names) == ("landed", (2, 0, 0, 0, 0), {"a"})
    assert d.standing == ["x", "x2"]
    assert d.ledger.leaving([FEED]) == []
    assert d.bring("a", "z") == "superseding"


def test_a_file_is_known_by_name_size_and_time_alone() -> None:
    d = Deliveries()
    d.bring("a", "x")
    d.bring("b", "bad", reason="UF-2001: b: empty")
    known = d.ledger.known
    assert known(FEED, "a", 1, 1, "other") is d.entry("x")
    assert known(FEED, "a", 1, 9, "d") is None
    assert known(FEED, "c", 1, 1, "d") is None
    assert known("other", "a", 1, 1, "d") is None
    assert known(FEED, "b", 3, 2, "d") is d.entry("bad")
    assert known(FEED, "b", 3, 2, "another definition") is None  # a corrected feed file looks again


def test_a_rollback_holds_what_came_since_and_makes_the_rest_what_it_was() -> None:
    landing = Deliveries()
    landing.bring("a.csv", "first")
    landing.bring("b.csv", "other")
    landing.bring("b.csv", "newer")  # other was superseded before
    then = copy.deepcopy(landing.ledger)
    landing.bring("a.csv", "bad")  # supersedes first
    landing.bring("c.csv", "more")
    landing.bring("b.csv", "other")  # comes again
    broken = landing.bring("d.csv", "broken", reason="no header")
    assert broken == "rejected"
    left = copy.deepcopy(landing.ledger)

    for _ in range(2):  # done twice it changes nothing more
        held = landing.ledger.roll_back(then, "held")
        assert sorted(e.sha256 for e in held) == ["bad", "more", "other"]
        assert sorted(landing.standing) == ["first", "newer"]
    assert landing.entry("broken").status == "rejected"
    assert landing.bring("a.csv", "bad") == "skipped"  # it still lies there
    assert landing.bring("z.csv", "more") == "skipped"  # under any name
    assert landing.bring("a.csv", "mended") == "superseding"
    assert landing.entry("first").status in ("leaving", "superseded")

    landing.ledger.release(landing.entry("more"))
    assert landing.bring("c.csv", "more") == "loaded"

    landing.ledger.roll_back(left, "held")  # forward again: what was superseded then is so again, and not held
    for content in ("first", "newer"):
        assert landing.entry(content).status == left.entries[FEED, content].status
    assert landing.entry("mended").status == "held"


def derive(ledger: Ledger, content: str, **times: int) -> Entry:
    """Silver holds a content at days of January under names."""
    entry = ledger.entries[FEED, content]
    entry.times = {f"{name}.csv": dt.datetime(2025, 1, day, tzinfo=dt.timezone.utc) for name, day in times.items()}
    entry.derived = frozenset(entry.times.values())
    return entry


def test_a_name_that_came_to_a_snapshot_since_is_held_while_its_content_stands() -> None:
    d = Deliveries()
    d.bring("a.csv", "x")
    derive(d.ledger, "x", a=1)
    d.bring("b.csv", "y")
    derive(d.ledger, "y", b=2)
    then = copy.deepcopy(d.ledger)
    d.bring("c.csv", "x")
    d.bring("copy.csv", "x")  # of the same time: it means nothing
    derive(d.ledger, "x", a=1, c=3, copy=1)
    left = copy.deepcopy(d.ledger)
    for _ in range(2):  # done twice it changes nothing more
        held = d.ledger.roll_back(then, "held: why")
        assert [(e.sha256, e.held_as) for e in held] == [("x", ["c.csv"])]
        x = d.entry("x")
        assert (x.status, x.names, set(x.times)) == ("loaded", {"a.csv"}, {"a.csv"})
    assert d.bring("c.csv", "x") == "skipped"  # touched, and not taken
    assert d.entry("x").names == {"a.csv"}
    assert d.ledger.known(FEED, "c.csv", 1, d.clock, "other") is d.entry("x")
    assert d.bring("a.csv", "z") == "superseding"  # it does not stand by the held name
    assert d.entry("x").status == "leaving"
    assert d.bring("c.csv", "x") == "skipped"

    d.ledger.roll_back(left, "held: why")  # forward again
    assert (d.entry("x").held_as, d.entry("x").names) == ([], {"a.csv", "c.csv", "copy.csv"})
    d.ledger.roll_back(then, "held: why")
    d.ledger.release(d.entry("x"))
    assert d.bring("c.csv", "x") == "skipped"
    assert d.entry("x").names == {"a.csv", "c.csv"}


def test_a_refused_name_is_known_until_the_feed_or_the_file_changes() -> None:
    d = Deliveries()
    d.bring("a.csv", "x")
    d.bring("b.csv", "x")
    entry = d.entry("x")
    entry.names.discard("b.csv")
    entry.refused["b.csv"] = ("UF-2010: b.csv", "d")
    assert d.ledger.known(FEED, "b.csv", 1, 2, "d") is entry
    assert d.ledger.known(FEED, "b.csv", 1, 2, "another definition") is None
    assert d.ledger.known(FEED, "b.csv", 1, 9, "d") is None
    assert d.bring("b.csv", "x") == "skipped"
    assert (entry.names, entry.refused) == ({"a.csv", "b.csv"}, {})


def test_a_refusal_gives_a_snapshot_its_name_back() -> None:
    d = Deliveries()
    d.bring("a.csv", "x")
    d.bring("c.csv", "x")
    derive(d.ledger, "x", a=1, c=3)
    assert d.bring("c.csv", "bad", load=False) == "loaded"  # x stands by a.csv too
    assert d.entry("x").names == {"a.csv"}
    d.entry("bad").status = "rejected"
    assert d.ledger.reinstate(d.entry("bad")) == [d.entry("x")]
    assert (d.entry("x").status, d.entry("x").names) == ("loaded", {"a.csv", "c.csv"})
