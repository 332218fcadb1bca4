"""What a user asks of raster-to-cog."""

from __future__ import annotations

from cogmill.raster.options.plan_options import PlanOptions


class Inputs(PlanOptions):
    """What a user asks for: from where, to where, and the options of the plan.

    Attributes
    ----------
    source : str
        Absolute location of the raster.
    destination : str
        Absolute location: ``*.tif`` is one COG, a collection (ending in ``/``) a mosaic.
    overwrite : bool
        Hint: foreign files in the destination may be replaced.
    """

    source: str
    destination: str
    overwrite: bool = False
