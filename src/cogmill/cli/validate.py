"""``cogmill validate``: is it a COG, all of it; or a mosaic, every tile as listed. No database."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import click

from cogmill import runtime
from cogmill.catalogue.manifest import MANIFEST_NAME, Manifest, ManifestFile, parse_manifest
from cogmill.cli.console import Output
from cogmill.cli.options import load_settings, memory_option, output_options
from cogmill.core_machine.child import frames
from cogmill.core_machine.child.process import ChildDied, SpareChild
from cogmill.core_machine.contracts import Cause
from cogmill.errors import PermanentError, Refused
from cogmill.raster.validate.verdict import Finding, Verdict
from cogmill.storage.location import Location
from cogmill.storage.store import Storage

log = logging.getLogger(__name__)

QUIET_SECONDS = 120.0
"""So long may a file be read without a block done before its reader is stopped."""


@click.command("validate")
@click.argument("source", metavar="COG")
@click.option("--strict", is_flag=True, help="Let warnings fail it too.")
@memory_option
@output_options
def validate(
    *, out: Output, source: str, strict: bool, memory: int | None, log_level: str | None
) -> int:
    """Check that COG is a Cloud Optimized GeoTIFF, and decode every block of it.

    The folder of a mosaic is checked by its cogmill.json: every file as listed, every tile a COG.
    Exit code 0 when it is valid, 1 when it is not, 2 when there is no such file.
    """
    settings = load_settings(memory=memory, log_level=log_level)
    place = Location.parse(source)
    with runtime.tools(settings, lambda done: None, memory=0) as tools:
        listing = _listing(place, tools.storage)
    with SpareChild(lambda: runtime.spawn(settings)) as child:
        examiner = _Examiner(child)
        if listing is None:
            verdict = examiner.examine(frames.Examine(location=str(place)))
            _tell(out, str(place), verdict, strict)
            out.result({"source": str(place), **_document(verdict, strict)})
            return 0 if verdict.valid(strict=strict) else 1
        return _mosaic(out, examiner, (place.as_collection(), listing), strict)


def _listing(place: Location, storage: Storage) -> Manifest | Finding | None:
    """Return what a mosaic's folder lists, None for a file."""
    if not storage.is_folder(place):
        return None
    manifest = place.as_collection().join(MANIFEST_NAME)
    if storage.info(manifest) is None:
        raise Refused(
            f"{place} is a folder without {MANIFEST_NAME}", "name a file, or the folder of a mosaic"
        )
    try:
        return parse_manifest(storage.read(manifest))
    except Refused as error:
        return Finding(
            rule="manifest", severity="error", where=MANIFEST_NAME, message=error.message,
            remedy="copy or fetch the folder again, or run its job again with --overwrite",
        )  # fmt: skip


def _mosaic(
    out: Output, examiner: _Examiner, mosaic: tuple[Location, Manifest | Finding], strict: bool
) -> int:
    folder, listing = mosaic
    if isinstance(listing, Finding):
        verdicts = {MANIFEST_NAME: Verdict(size_bytes=0, findings=(listing,))}
    else:
        verdicts = dict(_by_file(examiner, folder, listing))
    wrong = {name: each for name, each in verdicts.items() if not each.valid(strict=strict)}
    for name, verdict in verdicts.items():
        if verdict.findings:
            _tell(out, str(folder.join(name)), verdict, strict)
    blocks = sum(each.blocks_decoded for each in verdicts.values())
    if not wrong:
        out.say(f"{folder} is valid: {len(verdicts)} files as listed, {blocks} blocks decoded")
    else:
        out.say(f"{folder} is NOT valid: {len(wrong)} of {len(verdicts)} files are wrong")
    documents = [{"name": name, **_document(each, strict)} for name, each in verdicts.items()]
    out.result(
        {
            "source": str(folder),
            "valid": not wrong,
            "strict": strict,
            "blocks_decoded": blocks,
            "files": documents,
        }
    )
    return 1 if wrong else 0


def _by_file(
    examiner: _Examiner, folder: Location, listing: Manifest
) -> Iterator[tuple[str, Verdict]]:
    for each in listing.files:
        yield each.name, examiner.examine(_request(folder, each))


def _request(folder: Location, each: ManifestFile) -> frames.Examine:
    return frames.Examine(location=str(folder.join(each.name)), size=each.size, sha256=each.sha256)


class _Examiner:
    """Examines in a child, which may die of a damaged file: then the next one gets another."""

    def __init__(self, child: SpareChild) -> None:
        self._child = child

    def examine(self, request: frames.Examine) -> Verdict:
        """Return the verdict on one file.

        Raises
        ------
        Refused
            The file cannot be read at all.
        PermanentError
            A defect of ours.
        """
        child = self._child.get()
        try:
            answer = child.examine(request, QUIET_SECONDS, lambda done: None)
        except ChildDied as death:
            child.close()
            return _deadly(str(death))
        match answer:
            case frames.Returned(value=value):
                return Verdict.model_validate(value)
            case frames.Raised(failure=failure) if failure.cause is Cause.MEMORY:
                return _deadly("it takes more memory than there is")
            case frames.Raised(failure=failure) if failure.code != "defect":
                raise Refused(failure.message, failure.remedy)
            case frames.Raised(failure=failure, detail=detail):
                log.debug("examining failed: %s", detail)
                raise PermanentError(failure.message, "report it, with the file where it is small")


def _deadly(why: str) -> Verdict:
    wrong = Finding(
        rule="readable",
        severity="error",
        where="file",
        message=f"reading it ended badly: {why}",
        remedy="the file is damaged; copy or fetch it again",
    )
    return Verdict(size_bytes=0, findings=(wrong,))


def _tell(out: Output, name: str, verdict: Verdict, strict: bool) -> None:
    for finding in verdict.findings:
        out.say(f"{finding.severity}: {name}: {finding.where}: {finding.message}; {finding.remedy}")
    errors, warnings = len(verdict.of("error")), len(verdict.of("warning"))
    if verdict.valid(strict=strict):
        out.say(
            f"{name} is a valid COG: {len(verdict.levels)} images, {verdict.blocks_decoded} blocks "
            f"decoded, {errors} errors, {warnings} warnings"
        )
    else:
        out.say(f"{name} is NOT a valid COG: {errors} errors, {warnings} warnings")


def _document(verdict: Verdict, strict: bool) -> dict[str, Any]:
    errors, warnings = verdict.of("error"), verdict.of("warning")
    return {
        "valid": verdict.valid(strict=strict),
        "strict": strict,
        "errors": [each.model_dump(exclude={"severity"}) for each in errors],
        "warnings": [each.model_dump(exclude={"severity"}) for each in warnings],
        **verdict.model_dump(mode="json", exclude={"findings"}),
    }
