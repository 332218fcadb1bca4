"""Which way a job runs, and the words and numbers that say why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cogmill.errors import Refused
from cogmill.raster.costs import Cost, Costs
from cogmill.raster.demands import Job
from cogmill.raster.fetching import most_fetched
from cogmill.raster.memory import MIB, PROCESS_BASE, budget_text
from cogmill.raster.working import Way, direct, naive, two_stage


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
    """

    strategy: Literal["direct", "two-stage"]
    reason: str
    way: Way
    costs: Costs


def choose(job: Job) -> Choice:
    """Return the cheapest way that fits, or the one that the user named.

    Parameters
    ----------
    job : Job
        What is to be done.

    Raises
    ------
    Refused
        Nothing fits the memory; the remedy names the budget that would do.
    """
    one, two = direct(job), two_stage(job)
    costs = Costs(direct=one.cost, two_stage=two.cost, naive=naive(job))
    wanted = job.options.strategy
    if wanted == "auto":
        strategy, why = _cheaper(job, costs)
    else:
        strategy, why = wanted, f"--strategy {wanted}"
    chosen = one if strategy == "direct" else two
    if not chosen.cost.fits:
        other = two if strategy == "direct" else one
        _refuse(job, chosen if wanted != "auto" or chosen.needs <= other.needs else other)
    return Choice(strategy, f"{why}: {_compared(job, costs)}", chosen, costs)


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
    most = most_fetched(job.structure.image)
    if max(fetch_ratio(job, costs.direct), decode_ratio(job, costs.direct)) > most:
        return "two-stage", f"direct would fetch or decode the source more than {most:.2f} times"
    if not striped:
        return "direct", "the source is tiled, so each work tile reads what it needs"
    if costs.direct.seconds <= costs.two_stage.seconds:
        return "direct", "it is the cheaper way"
    return "two-stage", "it is the cheaper way"


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


def _refuse(job: Job, way: Way) -> None:
    pieces = way.piece_memory
    what = "output tile"
    if pieces is not None and pieces.total == way.needs:
        what = "source piece"
    elif job.structure.image.block_bytes > max(job.memory - PROCESS_BASE, 0):
        what = "strip" if job.structure.image.striped else "block of the source"
    raise Refused(
        f"one {what} needs {size_text(way.needs)} and a worker's child may use "
        f"{size_text(job.memory)}",
        f"--memory {budget_text(way.needs, job.options.workers)} would do "
        f"with --workers {job.options.workers}",
    )


def size_text(size: int) -> str:
    """Return bytes for a person, in MB or GB of 2^20 and 2^30, as ``--memory`` takes them."""
    if size >= 1024 * MIB:
        return f"{size / (1024 * MIB):.1f} GB"
    return f"{size / MIB:.{0 if size >= 10 * MIB else 1}f} MB"
