"""What a user asks of raster-to-cog."""

from __future__ import annotations

from cogmill.raster.options.plan_options import PlanOptions
from cogmill.storage.location import Location


class Inputs(PlanOptions):
    """What a user asks for: from where, to where, and the options of the plan.

    Attributes
    ----------
    source : Location
        The raster.
    destination : Location or None
        ``*.tif`` is one COG, a collection (ending in ``/``) a mosaic; None asks for a plan alone.
    overwrite : bool
        Hint: foreign files in the destination may be replaced.
    """

    source: Location
    destination: Location | None = None
    overwrite: bool = False

    @property
    def target(self) -> Location:
        """Where the result goes.

        Raises
        ------
        ValueError
            A plan alone was asked for.
        """
        if self.destination is None:
            raise ValueError("no destination: a plan alone was asked for")
        return self.destination
