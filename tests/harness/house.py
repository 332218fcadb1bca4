"""The source as the rules of the house read it: modules, and what they construct and read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.harness.places import ROOT

PACKAGE = ROOT / "src" / "cogmill"
# A class that ends so is a live part: made, and closed, in one place.
LIVE_PART = re.compile(r"(Store|Storage|Pool|Publisher|Database|StateManager|EmbeddedServer)$")
MADE_BY_ITS_OWNER = {
    "ConnectionPool": "core_machine/state/database/database.py",
    "EmbeddedServer": "core_machine/state/embedded/server.py",
}


@dataclass(frozen=True)
class Module:
    """One source file: its path below the package, and its text."""

    path: str
    text: str

    @property
    def nodes(self) -> Iterator[ast.AST]:
        return ast.walk(ast.parse(self.text))

    def at(self, node: ast.AST, what: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 0)}: {what}"


def modules() -> list[Module]:
    return [
        Module(str(path.relative_to(PACKAGE)), path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def environment_reads(module: Module) -> list[str]:
    """Only settings.py reads the environment."""
    if module.path == "settings.py":
        return []
    names = {"environ", "environb", "getenv", "getenvb"}
    found = []
    for node in module.nodes:
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=attr) if attr in names:
                found.append(module.at(node, f"os.{attr}"))
            case ast.ImportFrom(module="os", names=imported):
                found += [module.at(node, f"os.{a.name}") for a in imported if a.name in names]
            case ast.Attribute(attr="expanduser" | "expandvars" as attr):
                found.append(module.at(node, f"{attr} reads the environment"))
    return found


def constructions(module: Module) -> list[str]:
    """Only runtime.py builds stores, pools and publishers."""
    found = []
    for node in module.nodes:
        match node:
            case ast.Call(func=ast.Name(id=name)):
                pass
            # A module's attribute (psycopg_pool.ConnectionPool) or a factory (Database.open).
            case ast.Call(func=ast.Attribute(attr=name)) if LIVE_PART.search(name):
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
                pass
            case _:
                continue
        home = MADE_BY_ITS_OWNER.get(name, "runtime.py")
        if LIVE_PART.search(name) and module.path not in {home, "runtime.py"}:
            found.append(module.at(node, f"builds {name}"))
    return found
