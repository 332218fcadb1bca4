"""What a person is told to do next can be typed, and a slip of the shell hits no job."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from cogmill import failpoints, settings
from cogmill.cli.main import COMMANDS, cogmill
from cogmill.cli.report import next_command
from cogmill.core_machine.contracts import Cause, Failure, Job, JobStatus
from cogmill.core_machine.state.database.database import Database
from cogmill.core_machine.state.jobs import Jobs
from cogmill.errors import JobNotFound, Refused


def failed(cause: Cause) -> Job:
    failure = Failure(code="some", cause=cause, message="it broke")
    return Job(
        id="0123456789abcdef", lineage="l", generation=1, type="toy", version=1, inputs={},
        source_identity="s", engine="e", reach="any", owns=None, prepared="p", priority=0,
        status=JobStatus.FAILED, outputs=None, failure=failure, created_at=datetime.now(UTC),
        started_at=None, finished_at=None,
    )  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    command = cogmill.get_command(click.Context(cogmill), name)
    assert command is not None
    assert command.get_short_help_str(200) == COMMANDS[name][1]


@pytest.mark.parametrize("cause", Cause)
def test_the_next_command_stands_last_and_bare(cause: Cause) -> None:
    line = next_command(failed(cause))
    assert line is not None
    assert shlex.split(line.rpartition(": ")[2]) == ["cogmill", "retry", "0123456789ab"]


def test_an_empty_text_names_no_job() -> None:
    with Database("host=/nowhere") as database, pytest.raises(JobNotFound, match="empty"):
        Jobs(database).get("")


def test_a_failpoint_whose_file_has_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="make the folder"):
        failpoints.arm(f"sql.beat=raise@{tmp_path}/gone/once")


def test_a_user_without_a_home_folder_is_told_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 2**31 - 7)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    for name in ("COGMILL_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Refused, match="set COGMILL_HOME"):
        settings.Settings.load()
