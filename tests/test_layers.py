"""The picture of the architecture, enforced over the import statements."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "s1kit"
LAYERS = [
    {
        "concurrency",
        "environment",
        "errors",
        "extensions",
        "files",
        "records",
        "stage",
        "recipe",
        "recipes",
        "journal",
        "html",
        "progress",
    },
    {"forcing"},
    {"completions", "analysis", "providers", "questions", "grade", "tiny"},
    {"engines", "executors", "adaptive"},
    {"pool", "distill", "curate", "train", "evaluate", "report", "serve", "share"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
STAGES = LAYERS[4]


def imported_parts(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module] + ([f"s1kit.{a.name}" for a in node.names] if node.module == "s1kit" else [])
        found |= {n.split(".")[1] for n in names if n.startswith("s1kit.")}
    return found & LEVEL.keys()


def test_every_part_of_the_package_has_its_place_in_the_picture() -> None:
    parts = {p.stem if p.suffix == ".py" else p.name for p in PACKAGE.iterdir() if not p.name.startswith("_")}
    assert {p for p in parts if "." not in p} <= LEVEL.keys()


def test_an_import_only_goes_down_and_stages_never_import_each_other() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part not in LEVEL:
            continue
        for other in imported_parts(path) - {part}:
            if LEVEL[other] > LEVEL[part] or (part in STAGES and other in STAGES):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def test_the_machine_of_forcing_uses_the_standard_library_only() -> None:
    tree = ast.parse((PACKAGE / "forcing" / "budget.py").read_text(encoding="utf-8"))
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert modules == {"__future__", "dataclasses", "enum", "typing"}


def module_graph() -> dict[str, set[str]]:
    """Imports between modules, those inside functions left out: they run after both modules are there."""
    files = {
        ".".join(("s1kit", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        found: set[str] = set()
        pending: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
        while pending:
            node = pending.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {
                    f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in files else node.module for a in node.names
                }
            elif isinstance(node, ast.Import):
                found |= {a.name for a in node.names}
            pending += ast.iter_child_nodes(node)
        graph[name] = (found & files.keys()) - {name}
    return graph


def test_no_import_goes_round_in_a_circle() -> None:
    graph = module_graph()
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way[way.index(name) :], name))}"
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())
