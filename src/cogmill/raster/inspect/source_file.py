"""What kind of file a source's pixels come from, and what reading them again takes."""

from __future__ import annotations

import base64
import zlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class TiffSource(BaseModel):
    """One TIFF, whose blocks `read` fetches and decodes.

    Attributes
    ----------
    byte_order : str
        ``little`` or ``big``.
    bigtiff : bool
        True for 64-bit offsets.
    page : int or None
        Which of several images of the file this is, as GDAL counts its directories, from 1.
    mask_source : str or None
        ``internal`` (a directory of the same file) or ``sidecar`` (a ``.msk`` file of its own).
    mask_size_bytes : int
        Of a sidecar mask, else 0.
    header, mask_header : str
        The recorded header of the raster and of a sidecar mask (else empty): with it a task
        decodes blocks without reading any of it again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["tiff"] = "tiff"
    byte_order: Literal["little", "big"]
    bigtiff: bool
    page: int | None = None
    mask_source: Literal["internal", "sidecar"] | None = None
    mask_size_bytes: int = 0
    header: str
    mask_header: str = ""


class VrtSource(BaseModel):
    """A VRT over other files, whose windows GDAL reads (`vrt_reading`).

    Attributes
    ----------
    members : int
        How many rasters it is made of, those of VRTs in it included.
    document : str
        The VRT with all VRTs in it, every name absolute, packed: tasks read no VRT again.
    decoding_bytes : int
        What GDAL holds at most while it reads members, beside the pixels that are asked for.
    pixel_scratch : int
        Bytes that GDAL computes in for each pixel that is asked for at a time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["vrt"] = "vrt"
    members: int
    document: str
    decoding_bytes: int
    pixel_scratch: int

    @classmethod
    def packed(cls, text: str) -> str:
        """Return a document as it travels in a plan."""
        return base64.b64encode(zlib.compress(text.encode())).decode()

    @property
    def text(self) -> str:
        """Return the document, for `vrt_document.renamed_text`."""
        return zlib.decompress(base64.b64decode(self.document)).decode()


SourceFile = Annotated[TiffSource | VrtSource, Field(discriminator="kind")]
