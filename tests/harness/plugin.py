"""What every test may rely on: markers, profiles, and a session that touches no user's home.

``external`` tests need Debian programs, node or the corpus. Without ``--external`` they are left
out and counted; with it nothing may be left out or skipped. Under xdist a test marked ``alone``
runs while every other worker waits.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_LEFT_OUT = pytest.StashKey[int]()
_HOME = pytest.StashKey[Path]()
_SHARED_NAME = "COGMILL_TEST_SESSION"

# No deadline: two cores are shared with servers and children. Derandomized: a test that passed
# passes again; `--full` is where new examples are looked for.
settings.register_profile(
    "pairwise",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "full",
    deadline=None,
    max_examples=500,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cogmill")
    group.addoption(
        "--external",
        action="store_true",
        help="run the tests that need other programs or the corpus too; a skipped test then fails",
    )
    group.addoption(
        "--full",
        action="store_true",
        help="run every combination of the matrices, and more examples, instead of a selection",
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if config.getoption("--full") else "pairwise")
    if config.getoption("--external") and not _corpus().is_dir():
        raise pytest.UsageError(
            "--external needs COGMILL_TEST_CORPUS, the path of the folder with the test rasters"
        )
    _leave_the_user_alone(config)
    # A session in the background of a script ignores Ctrl-C, and would hand that on to processes
    # that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave_the_user_alone(config: pytest.Config) -> None:
    """Run on settings and a home of the session's own, whatever the user's environment says."""
    for name in [name for name in os.environ if name.startswith("COGMILL_")]:
        if not name.startswith("COGMILL_TEST_"):
            del os.environ[name]
    if not hasattr(config, "workerinput"):
        # Workers of xdist are children of this process and share the folder for their locks.
        config.stash[_HOME] = Path(tempfile.mkdtemp(prefix="cogmill-test-"))
        config.stash[_HOME].chmod(0o755)  # the server's user must get in
        os.environ[_SHARED_NAME] = str(config.stash[_HOME])
    os.environ["COGMILL_HOME"] = str(session_folder() / os.environ.get("PYTEST_XDIST_WORKER", "0"))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _HOME in config.stash:
        shutil.rmtree(config.stash[_HOME], ignore_errors=True)


def in_session() -> bool:
    """Whether pytest runs: programs use the harness too."""
    return _SHARED_NAME in os.environ


def session_folder() -> Path:
    """Return the folder that all workers of a session share; every user may enter it."""
    return Path(os.environ[_SHARED_NAME])


def _corpus() -> Path:
    return Path(os.environ.get("COGMILL_TEST_CORPUS") or "/nonexistent")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--external"):
        return
    left_out = [item for item in items if item.get_closest_marker("external")]
    config.stash[_LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep the machine to itself for a test marked ``alone``; waiting is not charged to a test."""
    with ExitStack() as locks:
        if hasattr(item.config, "workerinput"):
            mode = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
            # Who wants the machine alone waits at the gate, and newcomers wait behind it.
            with locked("gate", mode):
                locks.enter_context(locked("machine", mode))
        return (yield)


@contextmanager
def locked(name: str, mode: int) -> Iterator[None]:
    """Hold a file lock, which the kernel drops when its holder dies."""
    descriptor = os.open(session_folder() / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = config.stash.get(_LEFT_OUT, 0)
    elif config.getoption("--external") and _skipped(config) and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take the count from a worker of xdist; every worker collects the same tests."""
    output = getattr(node, "workeroutput", {})
    config: pytest.Config = node.config  # type: ignore[attr-defined]  # xdist has no types
    config.stash[_LEFT_OUT] = max(config.stash.get(_LEFT_OUT, 0), output.get("left_out", 0))


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", [])) if reporter else 0


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left_out = config.stash.get(_LEFT_OUT, 0)
    if left_out:
        terminalreporter.write_line(
            f"{left_out} external tests left out (they need Debian programs or the corpus; "
            "CONTRIBUTING.md says how to run them)"
        )
    if config.getoption("--external") and _skipped(config):
        terminalreporter.write_line(
            f"--external: {_skipped(config)} tests were skipped, and none may be", red=True
        )


@pytest.fixture(autouse=True)
def _programs(request: pytest.FixtureRequest) -> None:
    """Fail, not skip, where a program that an external test names is missing."""
    for marker in request.node.iter_markers("external"):
        missing = [name for name in marker.args if not shutil.which(name)]
        if missing:
            pytest.fail(f"missing: {', '.join(missing)}; CONTRIBUTING.md says how to install them")


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real, awkward rasters; for tests marked ``external``."""
    return _corpus().resolve()


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether every combination is asked for, or a selection that covers every pair."""
    return bool(pytestconfig.getoption("--full"))
