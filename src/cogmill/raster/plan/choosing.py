"""Which way a job runs, and the words and numbers that say why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cogmill.errors import Refused
from cogmill.raster.memory import MIB, PROCESS_BASE, budget_text
from cogmill.raster.options.plan_options import PlanOptions
from cogmill.raster.plan.costs import Cost, Costs
from cogmill.raster.plan.demands import Job
from cogmill.raster.plan.fitting import (
    Way,
    direct,
    naive,
    two_stage,
)
from cogmill.raster.read.fetching import most_fetched


@dataclass(frozen=True, slots=True)
class Choice:
    """The way that was chosen, beside those that were not.

    Attributes
    ----------
    strategy : str
        ``direct`` or ``two-stage``.
    reason : str
        Why, in words and numbers.
    way : Way
        How it is cut.
    costs : Costs
        All three.
    options : PlanOptions
        Those that it was made for: where memory is short, of fewer children, with more each.
    warning : str
        Said where they are fewer; else empty.
    """

    strategy: Literal["direct", "two-stage"]
    reason: str
    way: Way
    costs: Costs
    options: PlanOptions
    warning: str = ""


def choose(job: Job) -> Choice:
    """Return the cheapest way that fits, or the one that the user named.

    Where the children have too little each, fewer of them share what they have together.

    Parameters
    ----------
    job : Job
        What is to be done.

    Raises
    ------
    Refused
        Nothing fits the memory; the remedy names the budget that would do.
    """
    tries = [_Try.of(job)]
    while not tries[-1].good and tries[-1].job.options.workers > 1:
        tries.append(_Try.of(tries[-1].of_fewer_children()))
    chosen = next((each for each in tries if each.good), None)
    chosen = chosen or next((each for each in tries if each.fits), None)
    if chosen is None:
        raise tries[-1].refusal()
    reason = f"{chosen.why}: {_compared(chosen.job, chosen.costs)}"
    warning = "" if chosen is tries[0] else _of_fewer(tries[0], chosen)
    options = chosen.job.options
    return Choice(chosen.strategy, reason, chosen.way, chosen.costs, options, warning)


@dataclass(frozen=True, slots=True)
class _Try:
    """What is chosen for so many children, good or not.

    Attributes
    ----------
    job : Job
        With the options of so many.
    strategy, why : str
        Which way, and the beginning of the reason.
    way, other : Way
        The way that is chosen, and the one that is not.
    costs : Costs
        All three.
    """

    job: Job
    strategy: Literal["direct", "two-stage"]
    why: str
    way: Way
    other: Way
    costs: Costs

    @classmethod
    def of(cls, job: Job) -> _Try:
        one, two = direct(job), two_stage(job)
        costs = Costs(direct=one.cost, two_stage=two.cost, naive=naive(job))
        wanted = job.options.strategy
        strategy, why = (
            (wanted, f"--strategy {wanted}") if wanted != "auto" else _cheaper(job, costs)
        )
        way, other = (one, two) if strategy == "direct" else (two, one)
        return cls(job, strategy, why, way, other, costs)

    @property
    def fits(self) -> bool:
        return self.way.cost.fits and self.job.upper <= self.job.memory

    @property
    def good(self) -> bool:
        """Whether it fits, and reads the source directly only where that is no waste."""
        chosen_for_us = self.job.options.strategy == "auto" and self.strategy == "direct"
        return self.fits and not (chosen_for_us and _wasteful(self.job, self.way.cost))

    @property
    def least(self) -> Way:
        """The way that needs the least of those that may be taken; the other, where ours wastes."""
        if self.job.options.strategy != "auto":
            return self.way
        if self.fits:
            return self.other
        return self.way if self.way.needs <= self.other.needs else self.other

    @property
    def needs(self) -> int:
        """Bytes that one child must have."""
        return max(self.least.needs, self.job.upper)

    def of_fewer_children(self) -> Job:
        """Return the job for as many children as have enough, but fewer than now."""
        workers = self.job.options.workers
        enough = self.job.memory * workers // self.needs
        return self.job.shared_by(max(min(workers - 1, enough), 1))

    def refusal(self) -> Refused:
        """Say what is too large, and which budget would do."""
        job, pieces = self.job, self.least.piece_memory
        what = "output tile"
        if self.job.upper == self.needs:
            what = "COG's upper levels"
        elif pieces is not None and pieces.total == self.needs:
            what = "source piece"
        elif job.structure.image.block_bytes > max(job.memory - PROCESS_BASE, 0):
            what = "strip" if job.structure.image.striped else "block of the source"
        return Refused(
            f"one {what} needs {size_text(self.needs)} and a worker's child may use "
            f"{size_text(job.memory)}",
            f"--memory {budget_text(self.needs, job.options.workers)} would do "
            f"with --workers {job.options.workers}",
        )


def _of_fewer(wanted: _Try, chosen: _Try) -> str:
    workers = wanted.job.options.workers
    return (
        f"the memory is enough for {chosen.job.options.workers} of {workers} children at a time; "
        f"--memory {budget_text(wanted.needs, workers)} would keep all of them busy"
    )


def decode_ratio(job: Job, cost: Cost) -> float:
    """Return how often a stored block of the source is decoded on average."""
    stored = int((~job.structure.image.blocks.sparse).sum())
    return cost.blocks_decoded / stored if stored else 0.0


def fetch_ratio(job: Job, cost: Cost) -> float:
    """Return how many times the stored bytes of the source are fetched."""
    structure = job.structure
    stored = int(structure.image.blocks.byte_counts.sum())
    if structure.mask is not None:
        stored += int(structure.mask.blocks.byte_counts.sum())
    return cost.bytes_fetched / stored if stored else 0.0


def _cheaper(job: Job, costs: Costs) -> tuple[Literal["direct", "two-stage"], str]:
    striped = job.structure.image.striped
    if costs.direct.fits != costs.two_stage.fits:
        if costs.direct.fits:
            return "direct", "only this way fits the memory"
        return "two-stage", "only this way fits the memory"
    if _wasteful(job, costs.direct):
        most = most_fetched(job.structure.image)
        return "two-stage", f"direct would fetch or decode the source more than {most:.2f} times"
    if not striped:
        return "direct", "the source is tiled, so each work tile reads what it needs"
    if costs.direct.seconds <= costs.two_stage.seconds:
        return "direct", "it is the cheaper way"
    return "two-stage", "it is the cheaper way"


def _wasteful(job: Job, cost: Cost) -> bool:
    """Return whether the source is fetched or decoded more often than it should be."""
    most = most_fetched(job.structure.image)
    return max(fetch_ratio(job, cost), decode_ratio(job, cost)) > most


def _compared(job: Job, costs: Costs) -> str:
    """Return direct against two-stage in one clause."""
    blocks = "strip" if job.structure.image.striped else "block"
    one, two = costs.direct, costs.two_stage
    return (
        f"direct decodes each {blocks} {decode_ratio(job, one):.2f} times "
        f"({size_text(one.bytes_decoded)}, about {one.seconds:.0f} s), "
        f"two-stage {decode_ratio(job, two):.2f} times "
        f"({size_text(two.bytes_decoded)}, and {size_text(two.intermediate_bytes_written)} of "
        f"intermediates, about {two.seconds:.0f} s)"
    )


def size_text(size: int) -> str:
    """Return bytes for a person, in MB or GB of 2^20 and 2^30, as ``--memory`` takes them."""
    if size >= 1024 * MIB:
        return f"{size / (1024 * MIB):.1f} GB"
    return f"{size / MIB:.{0 if size >= 10 * MIB else 1}f} MB"
