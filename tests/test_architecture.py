"""The rules of the house that import-linter and ruff cannot see, each proven able to fail.

A check takes one module (or SQL file) and returns what is wrong with it, so the same function reads
the real tree and the bad examples.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from tests.harness.house import PACKAGE, Module, constructions, environment_reads, modules
from tests.harness.places import ROOT

MOST_LINES = 500
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
#: How a module says that it is apart for its length alone.
EXCUSES = re.compile(r"module of its own|\bHere and not in\b|long enough", re.IGNORECASE)
#: Packages below which every module has a name of its own.
ONE_NAME_EACH = {"raster", "core_machine", "job_types", "storage"}
#: Names that two modules may define, for both mean the same thing, or one hands on the other's.
SAME_THING = {
    "main",  # where a process begins
    "submit",  # of Python, and of the command line
    "Job",  # `cogmill.Job` is a hand on the machine's record
    "GeoTransform",  # an index is read without the engine
    "Connection",  # psycopg's
}
SQL_TAKERS = {"execute", "executemany", "copy", "stream", "SQL"}
PARENTS = {"core_machine", "storage", "triggers", "cli", "runtime", "settings", "telemetry", "api"}
HEAVY = {"rasterio", "pyproj", "tifffile", "imagecodecs", "numpy", "matplotlib"}


def sql_files() -> list[Module]:
    return [
        Module(str(path.relative_to(PACKAGE)), path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("sql/*/*.sql"))
    ]


def gdal_environments(module: Module) -> list[str]:
    """Only raster/gdal.py makes a rasterio.Env."""
    if module.path == "raster/gdal.py":
        return []
    return [
        module.at(node, "makes a rasterio.Env")
        for node in module.nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"rasterio.Env", "Env"}
    ]


def assembled_sql(module: Module) -> list[str]:
    """A statement is a file, never text put together."""
    found = []
    for node in module.nodes:
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[first, *_]) if (
                name in SQL_TAKERS
            ):
                match first:
                    case ast.JoinedStr() | ast.BinOp():
                        found.append(module.at(node, f"{name}() of assembled text"))
                    # psycopg's own composition quotes what it puts in: SQL("..").format(Identifier)
                    case ast.Call(
                        func=ast.Attribute(value=ast.Call(func=inner), attr="format")
                    ) if ast.unparse(inner) in {"SQL", "sql.SQL"}:
                        pass
                    case ast.Call(func=ast.Attribute(attr="format" | "join" | "replace")):
                        found.append(module.at(node, f"{name}() of assembled text"))
    return found


def vague_name(module: Module) -> list[str]:
    """A module's name says what is in it."""
    vague = VAGUE_NAMES & set(Path(module.path).with_suffix("").parts)
    return [f"{module.path}: says nothing" for _ in vague]


def too_long(module: Module) -> list[str]:
    """A module stays under about 500 lines."""
    lines = len(module.text.splitlines())
    return [f"{module.path}: {lines} lines"] if lines > MOST_LINES else []


def excuses_itself(module: Module) -> list[str]:
    """A module need not say why it is not part of another: it is one thing, or it is moved."""
    told = ast.get_docstring(ast.parse(module.text)) or ""
    return [f"{module.path}: {found[0]!r}" for found in EXCUSES.finditer(told)]


def asserted_input(module: Module) -> list[str]:
    """An assert is no check of input: `python -O` drops it."""
    return [module.at(node, "assert") for node in module.nodes if isinstance(node, ast.Assert)]


def multiprocessing_used(module: Module) -> list[str]:
    """Children are plain subprocesses; fork does not survive Celery, Functions or notebooks."""
    found = []
    for node in module.nodes:
        match node:
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=str(name)):
                imported = [name]
            case _:
                continue
        found += [
            module.at(node, name)
            for name in imported
            if name.split(".")[0] == "multiprocessing" or name == "concurrent.futures.process"
        ]
    return found


MODULE_CHECKS: list[Callable[[Module], list[str]]] = [
    environment_reads,
    constructions,
    gdal_environments,
    assembled_sql,
    vague_name,
    too_long,
    excuses_itself,
    asserted_input,
    multiprocessing_used,
]

# In one pass, since a comment may hold an apostrophe and a quoted text two dashes.
_COMMENT_OR_QUOTED = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<tag>\$\w*\$).*?(?P=tag)|'(?:[^']|'')*'|\"[^\"]*\"",
    re.DOTALL,
)


def statements(text: str) -> list[str]:
    """Cut SQL at the semicolons that end a statement."""
    bare = _COMMENT_OR_QUOTED.sub(lambda found: " " if found["comment"] else "?", text)
    return [part for part in bare.split(";") if part.strip()]


def many_statements(sql: Module) -> list[str]:
    """One file, one statement."""
    count = len(statements(sql.text))
    return [] if count == 1 else [f"{sql.path}: {count} statements"]


def unused_sql(sql: Module, python: list[Module]) -> list[str]:
    """A statement is named as the method that runs it, or named by that method."""
    name = Path(sql.path).stem
    named = re.compile(rf"""def _?{name}\b|["']{name}["']""")
    return [] if any(named.search(module.text) for module in python) else [f"{sql.path}: unused"]


@pytest.mark.parametrize("check", MODULE_CHECKS, ids=lambda check: check.__name__)
def test_every_module_keeps_the_rule(check: Callable[[Module], list[str]]) -> None:
    found = [problem for module in modules() for problem in check(module)]
    assert not found, f"{check.__doc__}\n" + "\n".join(found)


def test_every_sql_file_holds_one_statement() -> None:
    assert not [problem for sql in sql_files() for problem in many_statements(sql)]


def test_every_sql_file_is_run_by_the_method_that_it_names() -> None:
    state = [module for module in modules() if module.path.startswith("core_machine/state/")]
    assert not [problem for sql in sql_files() for problem in unused_sql(sql, state)]


def test_every_folder_with_modules_is_a_package_that_the_import_rules_see() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").is_file()]


def namesakes(paths: Iterable[str]) -> list[str]:
    """Return the names that two modules share, each with the places of both."""
    homes: dict[str, list[str]] = {}
    for path in map(Path, paths):
        if path.parts[0] in ONE_NAME_EACH and not path.stem.startswith("__"):
            homes.setdefault(path.stem, []).append(str(path))
    return [f"{name}: {' '.join(places)}" for name, places in homes.items() if len(places) > 1]


def test_no_two_modules_share_a_name() -> None:
    assert not namesakes(module.path for module in modules())


def test_two_modules_of_one_name_are_found() -> None:
    assert namesakes(["raster/warp/grid.py", "core_machine/state/grid.py"])
    assert not namesakes(["raster/warp/__init__.py", "raster/cog/__init__.py", "cli/jobs.py"])
    assert not namesakes(["cli/jobs.py", "core_machine/state/jobs.py", "runtime.py"])


def definitions(module: Module) -> Iterator[str]:
    """Yield the public classes, functions and types that a module defines."""
    for node in ast.parse(module.text).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found = name
            case ast.Assign(targets=[ast.Name(id=name)]) if (
                name[0].isupper() and not name.isupper()
            ):
                found = name
            case _:
                continue
        if not found.startswith("_"):
            yield found


def double_meanings(modules: Iterable[Module]) -> list[str]:
    """Return the names that two modules define, each with the places of both."""
    homes: dict[str, list[str]] = {}
    for module in modules:
        for name in definitions(module):
            homes.setdefault(name, []).append(module.path)
    return [
        f"{name}: {' '.join(places)}"
        for name, places in homes.items()
        if len(places) > 1 and name not in SAME_THING
    ]


def test_a_name_means_one_thing() -> None:
    assert not double_meanings(modules())


def test_a_name_of_two_things_is_found() -> None:
    one = Module("raster/a.py", "class Way:\n    pass\ndef fetch(): ...")
    assert double_meanings([one, Module("raster/b.py", "Way = tuple[int, int]")])
    assert double_meanings([one, Module("storage/b.py", "def fetch(): ...")])
    assert not double_meanings([one, Module("raster/b.py", "def _fetch(): ...\nWAY = 1")])


def imported(module: Module, known: Collection[str]) -> set[str]:
    """Return the modules of ours that a module imports, anywhere in it: `known` are all of them."""
    found: set[str] = set()
    for node in module.nodes:
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names} & set(known)
            case ast.ImportFrom(module=str(package), names=names):
                for alias in names:
                    full = f"{package}.{alias.name}"
                    found |= {full if full in known else package} & set(known)
    return found


def circle(modules: Iterable[Module]) -> list[str]:
    """Return modules that import each other in a ring, imports inside functions counted."""
    named = {dotted(module.path): module for module in modules}
    graph = {name: imported(module, named.keys()) for name, module in named.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as found:
        return list(found.args[1])
    return []


def dotted(path: str) -> str:
    """Return a module's full name."""
    inner = path.removesuffix(".py").replace("/", ".").removesuffix("__init__").rstrip(".")
    return f"cogmill.{inner}" if inner else "cogmill"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(modules()) == []


def test_a_circle_through_a_function_is_found() -> None:
    one = Module("raster/a.py", "from cogmill.raster import b")
    other = Module("raster/b.py", "def f():\n    from cogmill.raster.a import x")
    assert circle([one, other])
    assert not circle([one, Module("raster/b.py", "from cogmill.raster import c")])


def test_the_code_map_has_every_module_of_the_packages_that_have_many() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms: dict[str, set[str]] = {}
    for path in (Path(module.path) for module in modules()):
        if path.parts[0] in ONE_NAME_EACH and path.stem != "__init__":
            rooms.setdefault(str(path.parent), set()).add(path.stem)
    assert code_map(text) == rooms


def code_map(text: str) -> dict[str, set[str]]:
    """Return the modules of each package, as a document's table of packages has them."""
    row = re.compile(r"^\| `([a-z_/]+)` \|[^|]*\|([^|]*)\|$", re.MULTILINE)
    return {found[1]: set(re.findall(r"`([a-z_]+)`", found[2])) for found in row.finditer(text)}


@pytest.mark.slow
def test_parents_load_no_gdal() -> None:
    """The machine, the triggers, the command line and the runtime start without pixels."""
    parents = [
        "cogmill." + module.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for module in modules()
        if Path(module.path).with_suffix("").parts[0] in PARENTS
        and not module.path.endswith("__main__.py")
    ]
    script = (
        "import importlib, sys\n"
        f"for name in ['cogmill', *{parents!r}]: importlib.import_module(name)\n"
        f"print(*sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


BAD: list[tuple[Callable[[Module], list[str]], str, str]] = [
    (environment_reads, "raster/gdal.py", "import os\nx = os.environ['A']"),
    (environment_reads, "raster/gdal.py", "import os\nx = os.getenv('A')"),
    (environment_reads, "cli/main.py", "from os import environ"),
    (environment_reads, "cli/main.py", "from pathlib import Path\nPath('~').expanduser()"),
    (constructions, "job_types/tools.py", "store = LocalStore(root)"),
    (constructions, "core_machine/worker.py", "state = StateManager(database)"),
    (constructions, "core_machine/worker.py", "database = Database.open(url)"),
    (constructions, "core_machine/state/jobs.py", "pool = psycopg_pool.ConnectionPool(url)"),
    (constructions, "api.py", "publisher = wakeups.NotifyPublisher(state)"),
    (gdal_environments, "raster/warp.py", "import rasterio\nwith rasterio.Env(): pass"),
    (gdal_environments, "raster/warp.py", "from rasterio.env import Env\nEnv()"),
    (assembled_sql, "core_machine/state/jobs.py", "cursor.execute(f'SELECT {column}')"),
    (assembled_sql, "core_machine/state/jobs.py", "conn.execute('SELECT ' + column)"),
    (assembled_sql, "core_machine/state/jobs.py", "conn.execute('SELECT %s' % column)"),
    (assembled_sql, "core_machine/state/jobs.py", "sql.SQL('{}'.format(column))"),
    (vague_name, "raster/utils.py", ""),
    (vague_name, "common/grid.py", ""),
    (too_long, "raster/warp.py", "x = 1\n" * (MOST_LINES + 1)),
    (excuses_itself, "raster/warp.py", '"""Warps.\n\nA module of its own beside `x`."""'),
    (asserted_input, "raster/warp.py", "def warp(x):\n    assert x"),
    (multiprocessing_used, "core_machine/worker.py", "import multiprocessing.pool"),
    (multiprocessing_used, "core_machine/worker.py", "from multiprocessing import Process"),
    (many_statements, "sql/a.sql", "SELECT 1; SELECT 2"),
    (many_statements, "sql/a.sql", "-- nothing; at all\n"),
]


@pytest.mark.parametrize(("check", "path", "text"), BAD)
def test_a_breach_is_found(check: Callable[[Module], list[str]], path: str, text: str) -> None:
    assert check(Module(path, text))


GOOD: list[tuple[Callable[[Module], list[str]], str, str]] = [
    (environment_reads, "settings.py", "import os\nx = os.environ['A']"),
    (constructions, "runtime.py", "state = StateManager(Database(LocalStore(), pool))"),
    (constructions, "core_machine/state/database/database.py", "pool = ConnectionPool(url)"),
    (constructions, "job_types/tools.py", "tools.storage.read(location)"),
    (gdal_environments, "raster/gdal.py", "import rasterio\nrasterio.Env()"),
    (assembled_sql, "core_machine/state/jobs.py", "cursor.execute(statement('claim'), params)"),
    (
        assembled_sql,
        "core_machine/state/database/database.py",
        "c.execute(SQL('LISTEN {}').format(x))",
    ),
    (too_long, "raster/warp.py", "x = 1\n" * MOST_LINES),
    (many_statements, "sql/a.sql", "-- it's one; only\nSELECT ';', $$a;b$$ /* ; */;\n"),
]


@pytest.mark.parametrize(("check", "path", "text"), GOOD)
def test_what_is_allowed_is_left_alone(
    check: Callable[[Module], list[str]], path: str, text: str
) -> None:
    assert not check(Module(path, text))


def test_a_statement_that_no_method_names_is_found() -> None:
    state = [Module("core_machine/state/jobs.py", "def claim_task(self): ...\nrun('end_job')")]
    assert unused_sql(Module("sql/forgotten.sql", "SELECT 1"), state)
    assert not unused_sql(Module("sql/claim_task.sql", "SELECT 1"), state)
    assert not unused_sql(Module("sql/end_job.sql", "SELECT 1"), state)
