"""The simulated source systems: realistic landed files from a seed, and the ledger of the defects planted in them."""

from utilityflow.simulate.simulator import CORE, ON_REQUEST, SYSTEMS, Summary, simulate

__all__ = ["CORE", "ON_REQUEST", "SYSTEMS", "Summary", "simulate"]
