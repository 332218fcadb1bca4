"""cogmill from Python: `submit` records a job, `Job.wait` works on it in this process.

>>> job = cogmill.submit("dem.tif", "out/", dst_crs="EPSG:3857")  # doctest: +SKIP
>>> job.wait().outputs["main"]  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from cogmill import runtime
from cogmill.core_machine.contracts import Failure, JobStatus
from cogmill.core_machine.contracts import Job as Record
from cogmill.core_machine.worker import run_jobs
from cogmill.errors import PermanentError
from cogmill.job_types.raster_to_cog.job_type import RasterToCog
from cogmill.job_types.raster_to_cog.request import most_children, raster_inputs
from cogmill.settings import Settings


class Job:
    """A recorded job. It holds no connection: every question is asked of the database anew.

    Parameters
    ----------
    settings : Settings
        Where the database is, and what `wait` may use.
    job_id : str
        Its id, or the beginning of it.
    """

    def __init__(self, settings: Settings, job_id: str) -> None:
        self._settings = settings
        self.id = job_id

    def __repr__(self) -> str:
        """Name the job."""
        return f"<cogmill.Job {self.id[:12]}>"

    @property
    def status(self) -> JobStatus:
        """``accepted``, ``running``, ``successful``, ``failed`` or ``dismissed``."""
        return self._record().status

    @property
    def outputs(self) -> JsonValue:
        """What a successful job made, as ``cogmill show --json`` prints it; None before."""
        return self._record().outputs

    @property
    def failure(self) -> Failure | None:
        """Why it failed, and what to do."""
        return self._record().failure

    def wait(self) -> Job:
        """Work on the job in this process until it has ended; other workers may share it.

        Interrupted, it gives its tasks back and raises `KeyboardInterrupt`; call it again.

        Raises
        ------
        PermanentError
            The job failed or was dismissed; the message says why.
        """
        with runtime.machine(self._settings) as machine:
            job = machine.state.jobs.get(self.id)
            if run_jobs.needs_work(machine.state, job):
                pace = machine.settings.effective_pace
                most = most_children(machine.settings, machine.state.jobs.prepared(job))
                worker = machine.worker(only_jobs=[job.id], most_children=most)
                job = run_jobs.run_job(
                    machine.state, worker, job.id, run_jobs.Watch(seconds=pace.look / 4)
                )
        if job.status is not JobStatus.SUCCESSFUL:
            failure = job.failure
            raise PermanentError(
                failure.message if failure else f"job {job.id[:12]} is {job.status}",
                failure.remedy if failure else "submit it again",
            )
        return self

    def _record(self) -> Record:
        with runtime.machine(self._settings) as machine:
            return machine.state.jobs.get(self.id)


def submit(
    source: str,
    destination: str,
    *,
    overwrite: bool = False,
    force: bool = False,
    priority: int = 0,
    **options: Any,
) -> Job:
    """Record a job, or find the one that already answers.

    Parameters
    ----------
    source : str
        The raster.
    destination : str
        A name that ends in ``.tif`` is one COG; anything else is the folder of a mosaic.
    overwrite : bool
        True: foreign files in the destination may be replaced.
    force : bool
        True: do all of it again, whatever was done before.
    priority : int
        Higher is claimed sooner.
    **options
        Fields of `cogmill.raster.options.plan_options.PlanOptions` (``dst_crs="EPSG:3857"``), and
        ``memory`` (``"3.5GB"``) and ``workers`` of this process.

    Raises
    ------
    Refused
        The input or an option is wrong; nothing was recorded.
    """
    settings = Settings.load(
        memory=options.pop("memory", None), workers=options.pop("workers", None)
    )
    with runtime.machine(settings, wants_child=True) as machine:
        with runtime.tools(settings, _silent, memory=0) as tools:
            inputs = raster_inputs(
                str(source), str(destination), options, tools.storage, overwrite=overwrite
            )
        answer = machine.job_processor().submit(
            RasterToCog.id, inputs, priority=priority, force=force
        )
        return Job(settings, answer.job.id)


def _silent(done: int) -> None:
    """Nobody watches the pixels of a parent: it reads none."""
