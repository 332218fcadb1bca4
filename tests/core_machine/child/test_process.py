"""What passes between a worker and its child, whatever the code of a job type does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from cogmill import runtime
from cogmill.core_machine.child import frames, process
from cogmill.core_machine.child.process import (
    Answer,
    Call,
    ChildDied,
    ChildProcess,
    SpareChildren,
)
from cogmill.core_machine.contracts import Cause, PlannedTask, StageResult
from cogmill.errors import Refused
from cogmill.settings import Settings


@pytest.fixture(scope="module")
def shared() -> Iterator[list[ChildProcess]]:
    """Keep one child from test to test; each leaves it able to work."""
    kept: list[ChildProcess] = []
    yield kept
    for child in kept:
        child.close()


@pytest.fixture
def child(packages: None, shared: list[ChildProcess]) -> ChildProcess:
    if not shared:
        shared.append(runtime.spawn(Settings.load()))
    return shared[0]


class Results(Call):
    """Offers five thousand results."""

    def results(self, stage: str) -> Iterable[StageResult]:
        return [StageResult(key=str(number), result={"x": "y" * 50}) for number in range(5000)]


def run(
    child: ChildProcess, folder: Path, fault: str, stage: str = "", what: str = "execute"
) -> tuple[Answer, list[PlannedTask]]:
    job = frames.RunningJob(
        id="j", lineage="l", generation=1, type="naughty", version=1, source_identity="s",
        inputs={"folder": str(folder), "fault": fault, "count": 2}, engine="e",
        attempt="t1-a1",
    )  # fmt: skip
    request = frames.Run.model_validate(
        {"what": what, "job": job, "prepared": "p", "stage": stage or "first"}
    )
    return child.run(request, lambda digest: None, Results())


def failure(child: ChildProcess, folder: Path, fault: str) -> tuple[Cause, str]:
    answer, _ = run(child, folder, fault)
    assert isinstance(answer, frames.Raised)
    return answer.failure.cause, answer.failure.message


def value(child: ChildProcess, folder: Path, fault: str) -> JsonValue:
    answer, _ = run(child, folder, fault)
    assert isinstance(answer, frames.Returned)
    return answer.value


def test_a_planner_may_plan_while_thousands_of_results_stream_in(
    child: ChildProcess, tmp_path: Path
) -> None:
    answer, planned = run(child, tmp_path, "", "second", "plan")
    assert isinstance(answer, frames.Returned)
    assert answer.value == "0"
    assert [task.key for task in planned] == [str(number) for number in range(5000)]


def test_an_end_of_file_that_a_job_type_meets_is_not_the_end_of_the_pipe(
    child: ChildProcess, tmp_path: Path
) -> None:
    found = failure(child, tmp_path, "end of file")
    assert found == (Cause.PERMANENT, "EOFError: the tail of a strip is missing")
    assert child.alive


def test_a_result_that_is_no_text_is_refused_with_its_reason(
    child: ChildProcess, tmp_path: Path
) -> None:
    cause, message = failure(child, tmp_path, "no text")
    assert (cause, "surrogates not allowed" in message) == (Cause.PERMANENT, True)
    assert child.alive


def test_a_message_arrives_whatever_characters_it_has(child: ChildProcess, tmp_path: Path) -> None:
    assert failure(child, tmp_path, "NUL in the message")[1] == "tag \ufffd of ? is odd"


def test_a_job_type_that_reads_or_prints_does_not_disturb_the_frames(
    child: ChildProcess, tmp_path: Path
) -> None:
    assert value(child, tmp_path, "reads its input") == {"text": ""}
    assert value(child, tmp_path, "prints") == {"text": ""}


def test_large_results_pass(child: ChildProcess, tmp_path: Path) -> None:
    found = value(child, tmp_path, "large result")
    assert isinstance(found, dict)
    assert len(str(found["text"])) == 1 << 20


def test_a_child_that_does_not_get_ready_is_killed(
    monkeypatch: pytest.MonkeyPatch, packages: None
) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.01)
    with pytest.raises(ChildDied, match=r"no answer within 0\.01 s"):
        runtime.spawn(Settings.load()).wait_started()


def test_a_child_that_is_prepared_is_lent_and_taken(packages: None) -> None:
    children = SpareChildren(lambda: runtime.spawn(Settings.load()))
    children.prepare()
    with children.lent() as spare:
        first = spare.get()
    children.prepare()
    assert children.take() is first
    first.close()
    children.close()


@pytest.mark.parametrize(
    ("raised", "is_kept"),
    [(Refused("no", "do not"), True), (KeyboardInterrupt(), False), (ValueError(), False)],
)
def test_a_child_whose_talk_may_have_been_cut_short_is_not_lent_again(
    raised: BaseException, is_kept: bool
) -> None:
    children = SpareChildren(lambda: runtime.spawn(Settings.load()))
    with pytest.raises(type(raised)), children.lent() as spare:
        first = spare.get()
        raise raised
    assert first.alive is is_kept
    with children.lent() as spare:
        assert (spare.get() is first) is is_kept
    children.close()
