"""What the reconciler may do: find, and call the transitions that everybody calls.

Proven able to fail on sources that do more.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import cogmill

SOURCES = Path(cogmill.__file__).parent
MODULE = SOURCES / "core_machine" / "reconciliation.py"
STATE = SOURCES / "core_machine" / "state"
STATEMENTS = {path.stem: path for path in (STATE / "sql").rglob("*.sql")}
#: Transitions that are the reconciler's own: the death of workers, and what waits for room.
ITS_OWN = {
    "workers.suspect", "workers.renew_suspicions", "workers.declare_dead", "workers.rescue",
    "tasks.split_waiting", "tasks.refuse_waiting",
}  # fmt: skip
ITS_RECORD = {f"reconciliations.{name}" for name in ("begin", "record", "finish", "note", "prune")}
NOUNS = {"jobs", "tasks", "workers", "cleanups", "wakeups", "reconciliations"}
WRITES = re.compile(
    r"\b(INSERT|UPDATE|DELETE|MERGE|COPY|CREATE|ALTER|DROP|TRUNCATE|pg_notify|nextval|setval|"
    r"pg_advisory\w*|set_config)\b",
    re.I,
)


def test_the_reconciler_calls_finders_and_the_transitions_that_others_call() -> None:
    assert breaches(MODULE.read_text()) == []


def breaches(source: str) -> list[str]:
    """Return what of the calls of the state in a reconciler is not allowed to it."""
    found = []
    for call in sorted(calls(source)):
        noun, _, method = call.partition(".")
        if noun not in NOUNS or not method:
            found.append(f"{call}: no noun of the state")
        elif call in ITS_OWN | ITS_RECORD or _only_reads(method):
            continue
        elif not _others_call(noun, method):
            found.append(f"{call}: nobody else calls it")
    return found


def calls(source: str) -> set[str]:
    """Return the methods of the state that a reconciler names, as ``noun.method``."""
    tree = ast.parse(source)
    nouns = {"self._state": ""}
    for node in ast.walk(tree):  # `workers = self._state.workers`
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            chain = ast.unparse(node.value)
            if chain.startswith("self._state."):
                nouns[node.targets[0].id] = chain.removeprefix("self._state.") + "."
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        chain = ast.unparse(node)
        for root, prefix in nouns.items():
            if chain.startswith(f"{root}."):
                found.add(prefix + chain.removeprefix(f"{root}."))
    # `self._state.jobs` is there within `self._state.jobs.advance`.
    return {
        one for one in found if "." in one or not any(f.startswith(f"{one}.") for f in found)
    } - {prefix.rstrip(".") for prefix in nouns.values()}


def _only_reads(method: str) -> bool:
    """Whether all statements of all methods of this name in the state only read."""
    names = STATEMENTS.keys() & {
        constant.value
        for function in _methods(method)
        for constant in ast.walk(function)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }
    return bool(names) and all(_is_a_finder(name) for name in names)


def _methods(name: str) -> list[ast.FunctionDef]:
    return [
        node
        for path in STATE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]


def _is_a_finder(name: str) -> bool:
    text = STATEMENTS[name].read_text()
    text = re.sub(r"--.*|'[^']*'", "", text).strip()
    reads = re.match(r"(WITH\b.*?\)\s*)?SELECT\b", text, re.S | re.I)
    locks = re.search(r"\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE|KEY\s+SHARE)\b", text, re.I)
    return bool(reads) and not WRITES.search(text) and not locks


def _others_call(noun: str, method: str) -> bool:
    pattern = re.compile(rf"\b{noun}\.{method}\b")
    return any(
        pattern.search(path.read_text())
        for path in SOURCES.rglob("*.py")
        if path not in (MODULE, STATE / "__init__.py")
    )


def test_what_is_called_the_reconcilers_own_is_nobody_elses() -> None:
    used = calls(MODULE.read_text())
    assert used >= ITS_OWN | ITS_RECORD
    assert [call for call in sorted(ITS_OWN) if _others_call(*call.split("."))] == []


@pytest.mark.parametrize(
    "line",
    [
        "self._state.jobs.mend(job)",
        "partial(self._state.tasks.forget, task)",
        "self._state.database.run(work)",
        "workers = self._state.workers\n        workers.bury_all()",
    ],
)
def test_a_repair_of_its_own_is_found(line: str) -> None:
    source = MODULE.read_text()
    place = "    def _wake(self, job: str) -> None:\n"
    assert source.count(place) == 1
    assert len(breaches(source.replace(place, f"{place}        {line}\n"))) == 1


@pytest.mark.parametrize("name", sorted(name for name in STATEMENTS if name.startswith("find_")))
def test_a_finder_only_reads(name: str) -> None:
    assert _is_a_finder(name)


def test_a_statement_that_writes_is_no_finder() -> None:
    for name in ("take_wakeups", "rescue_tasks", "claim_task", "notify", "lock_job", "lock_stage"):
        assert not _is_a_finder(name), name
