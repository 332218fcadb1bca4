"""The choice of the strategy, direct or two-stage, and the words and numbers that say why."""

from __future__ import annotations

from dataclasses import dataclass

from cogmill.errors import Refused
from cogmill.raster.memory import MIB, PROCESS_BASE, budget_text
from cogmill.raster.options.plan_options import PlanOptions, Strategy
from cogmill.raster.plan.costs import Cost, Costs
from cogmill.raster.plan.demands import Workload
from cogmill.raster.plan.fitting import (
    FittedStrategy,
    fit_direct,
    fit_two_stage,
    naive_cost,
)
from cogmill.raster.read.fetching import most_fetched


@dataclass(frozen=True, slots=True)
class StrategyChoice:
    """The strategy that was chosen, beside those that were not.

    Attributes
    ----------
    strategy : str
        ``direct`` or ``two-stage``.
    reason : str
        Why, in words and numbers.
    fitted : FittedStrategy
        How it is cut.
    costs : Costs
        All three.
    options : PlanOptions
        Those that it was made for: where memory is short, of fewer children, with more each.
    warning : str
        Said where they are fewer; else empty.
    """

    strategy: Strategy
    reason: str
    fitted: FittedStrategy
    costs: Costs
    options: PlanOptions
    warning: str = ""


def choose_strategy(workload: Workload) -> StrategyChoice:
    """Return the cheapest strategy that fits, or the one that the user named.

    Where the children have too little each, fewer of them share what they have together.

    Parameters
    ----------
    workload : Workload
        What is to be done.

    Raises
    ------
    Refused
        Nothing fits the memory; the remedy names the budget that would do.
    """
    tries = [_Try.of(workload)]
    while not tries[-1].good and tries[-1].workload.options.workers > 1:
        tries.append(_Try.of(tries[-1].of_fewer_children()))
    chosen = next((each for each in tries if each.good), None)
    chosen = chosen or next((each for each in tries if each.fits), None)
    if chosen is None:
        raise tries[-1].refusal()
    reason = f"{chosen.why}: {_compared(chosen.workload, chosen.costs)}"
    warning = "" if chosen is tries[0] else _of_fewer(tries[0], chosen)
    options = chosen.workload.options
    return StrategyChoice(chosen.strategy, reason, chosen.fitted, chosen.costs, options, warning)


@dataclass(frozen=True, slots=True)
class _Try:
    """What is chosen for so many children, good or not.

    Attributes
    ----------
    workload : Workload
        With the options of so many.
    strategy, why : str
        Which one, and the beginning of the reason.
    fitted, other : FittedStrategy
        The strategy that is chosen, and the one that is not.
    costs : Costs
        All three.
    """

    workload: Workload
    strategy: Strategy
    why: str
    fitted: FittedStrategy
    other: FittedStrategy
    costs: Costs

    @classmethod
    def of(cls, workload: Workload) -> _Try:
        one, two = fit_direct(workload), fit_two_stage(workload)
        costs = Costs(direct=one.cost, two_stage=two.cost, naive=naive_cost(workload))
        wanted = workload.options.strategy
        strategy, why = (
            (wanted, f"--strategy {wanted}") if wanted != "auto" else _cheaper(workload, costs)
        )
        fitted, other = (one, two) if strategy == "direct" else (two, one)
        return cls(workload, strategy, why, fitted, other, costs)

    @property
    def fits(self) -> bool:
        return self.fitted.cost.fits and self.workload.upper <= self.workload.memory

    @property
    def good(self) -> bool:
        """Whether it fits, and reads the source directly only where that is no waste."""
        chosen_for_us = self.workload.options.strategy == "auto" and self.strategy == "direct"
        return self.fits and not (chosen_for_us and _wasteful(self.workload, self.fitted.cost))

    @property
    def least(self) -> FittedStrategy:
        """The strategy that needs the least of those that may be taken."""
        if self.workload.options.strategy != "auto":
            return self.fitted
        if self.fits:
            return self.other
        return self.fitted if self.fitted.needs <= self.other.needs else self.other

    @property
    def needs(self) -> int:
        """Bytes that one child must have."""
        return max(self.least.needs, self.workload.upper)

    def of_fewer_children(self) -> Workload:
        """Return the workload for as many children as have enough, but fewer than now."""
        workers = self.workload.options.workers
        enough = self.workload.memory * workers // self.needs
        return self.workload.shared_by(max(min(workers - 1, enough), 1))

    def refusal(self) -> Refused:
        """Say what is too large, and which budget would do."""
        workload, pieces = self.workload, self.least.piece_memory
        what = "output tile"
        if self.workload.upper == self.needs:
            what = "COG's upper levels"
        elif pieces is not None and pieces.total == self.needs:
            what = "source piece"
        elif workload.structure.image.block_bytes > max(workload.memory - PROCESS_BASE, 0):
            what = "strip" if workload.structure.image.striped else "block of the source"
        return Refused(
            f"one {what} needs {bytes_text(self.needs)} and a worker's child may use "
            f"{bytes_text(workload.memory)}",
            f"--memory {budget_text(self.needs, workload.options.workers)} would do "
            f"with --workers {workload.options.workers}",
        )


def _of_fewer(wanted: _Try, chosen: _Try) -> str:
    workers, fewer = (each.workload.options.workers for each in (wanted, chosen))
    return (
        f"the memory is enough for {fewer} of {workers} children at a time; "
        f"--memory {budget_text(wanted.needs, workers)} would keep all of them busy"
    )


def decode_ratio(workload: Workload, cost: Cost) -> float:
    """Return how often a stored block of the source is decoded on average."""
    stored = int((~workload.structure.image.blocks.sparse).sum())
    return cost.blocks_decoded / stored if stored else 0.0


def fetch_ratio(workload: Workload, cost: Cost) -> float:
    """Return how many times the stored bytes of the source are fetched."""
    structure = workload.structure
    stored = int(structure.image.blocks.byte_counts.sum())
    if structure.mask is not None:
        stored += int(structure.mask.blocks.byte_counts.sum())
    return cost.bytes_fetched / stored if stored else 0.0


def _cheaper(workload: Workload, costs: Costs) -> tuple[Strategy, str]:
    striped = workload.structure.image.striped
    if costs.direct.fits != costs.two_stage.fits:
        if costs.direct.fits:
            return "direct", "only this way fits the memory"
        return "two-stage", "only this way fits the memory"
    if _wasteful(workload, costs.direct):
        most = most_fetched(workload.structure.image)
        return "two-stage", f"direct would fetch or decode the source more than {most:.2f} times"
    if not striped:
        return "direct", "the source is tiled, so each work tile reads what it needs"
    if costs.direct.seconds <= costs.two_stage.seconds:
        return "direct", "it is the cheaper way"
    return "two-stage", "it is the cheaper way"


def _wasteful(workload: Workload, cost: Cost) -> bool:
    """Return whether the source is fetched or decoded more often than it should be."""
    most = most_fetched(workload.structure.image)
    return max(fetch_ratio(workload, cost), decode_ratio(workload, cost)) > most


def _compared(workload: Workload, costs: Costs) -> str:
    """Return direct against two-stage in one clause."""
    blocks = "strip" if workload.structure.image.striped else "block"
    one, two = costs.direct, costs.two_stage
    return (
        f"direct decodes each {blocks} {decode_ratio(workload, one):.2f} times "
        f"({bytes_text(one.bytes_decoded)}, about {one.seconds:.0f} s), "
        f"two-stage {decode_ratio(workload, two):.2f} times "
        f"({bytes_text(two.bytes_decoded)}, and {bytes_text(two.intermediate_bytes_written)} of "
        f"intermediates, about {two.seconds:.0f} s)"
    )


def bytes_text(size: int) -> str:
    """Return bytes for a person, in MB or GB of 2^20 and 2^30, as ``--memory`` takes them."""
    if size >= 1024 * MIB:
        return f"{size / (1024 * MIB):.1f} GB"
    return f"{size / MIB:.{0 if size >= 10 * MIB else 1}f} MB"
