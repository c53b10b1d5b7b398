"""Pages of the site that are read off the code at each build: the command line, and every error message.

mkdocs runs it (plugin gen-files); nothing that it writes is kept in the repository, so nothing can go stale.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import s1kit
from s1kit.cli.arguments import make_parser

PACKAGE = Path(s1kit.__file__).parent
ERRORS = {"InputError": "2", "WorkFailed": "1", "MissingExtra": "2"}
"""Which exceptions a user sees, and the exit status of each."""

LISTED = "What is possible is listed in the message."
"""For advice that is computed as a whole: the names that exist here, or the faults that were found."""


def command_page() -> str:
    """Every command with its arguments, from the parser that reads them."""
    parser = make_parser()
    lines = ["# Command line", "", parser.description or "", "", parser.epilog or "", ""]
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        lines += [f"## s1kit {name}", "", command.description or "", "", "| argument | meaning |", "|---|---|"]
        for action in command._actions:
            if action.dest == "help":
                continue
            text = (action.help or "") % (vars(action) | {"prog": command.prog})
            lines.append(f"| {_argument(action)} | {_cell(text)} |")
        lines.append("")
    return "\n".join(lines)


def _argument(action: argparse.Action) -> str:
    metavar = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    value = f" {metavar}" if metavar and action.nargs != 0 and action.option_strings else ""
    names = [f"`{name}{value}`" for name in action.option_strings] or [f"`{metavar or action.dest}`"]
    return ", ".join(names).replace("|", "\\|")


def message_page() -> str:
    """Every message that s1kit itself raises, by package: what is wrong and what to do."""
    lines = [
        "# Error messages",
        "",
        "Every message has three parts: what was wrong, where (in brackets), and what to do. `...` stands for a value",
        "of yours. Exit status 2 is a mistake in what was given, and nothing was done; 1 means that the work failed,",
        "and what had arrived is kept.",
        "",
    ]
    for package in sorted({path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")}):
        rows = sorted(set(_messages(PACKAGE / package)))
        if rows:
            lines += [f"## {package.removesuffix('.py')}", "", "| message | what to do | status |", "|---|---|---|"]
            lines += [
                f"| {_cell(what)} | {_cell((fix.strip('. ') and fix) or LISTED)} | {status} |"
                for what, fix, status in rows
            ]
            lines.append("")
    return "\n".join(lines)


def _messages(path: Path) -> Iterator[tuple[str, str, str]]:
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
                around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
                known = CONSTANTS | _strings(tree.body, node.lineno)
                for function in around:
                    known |= _strings(ast.walk(function), node.lineno)
                named = {word.arg: word.value for word in node.keywords}
                what, fix = _text(node.args[0], known), _text(named.get("fix"), known)
                if node.func.id == "MissingExtra":
                    package = _text(node.args[1], known) if len(node.args) > 1 else "..."
                    what = f"{what} needs {package}, which is not installed"
                    fix = f"Install it with: pip install 's1kit[{_text(named.get('extra'), known)}]'"
                if what.strip(". "):
                    yield what, fix, ERRORS[node.func.id]


def _strings(nodes: Iterable[ast.AST], before: int) -> dict[str, ast.expr]:
    """What the names that are assigned strings stand for on line `before`."""
    found = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and node.lineno <= before and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            pairs = zip(target.elts, value.elts, strict=False) if _are_tuples(target, value) else [(target, value)]
            found |= {
                one.id: given for one, given in pairs if isinstance(one, ast.Name) and _text(given, {}).strip(". ")
            }
    return found


def _are_tuples(target: ast.expr, value: ast.expr) -> bool:
    return isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)


def _text(node: ast.expr | None, known: dict[str, ast.expr]) -> str:
    """A string expression as text; whatever is computed becomes `...`."""
    match node:
        case None:
            return ""
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)  # type: ignore[misc]
        case ast.BinOp(op=ast.Add()):
            return _text(node.left, known) + _text(node.right, known)
        case ast.IfExp():
            return " / ".join(filter(None, (_text(node.body, known), _text(node.orelse, known))))
        case ast.Name() if node.id in known:
            return _text(known[node.id], {name: value for name, value in known.items() if name != node.id})
    return "..."


CONSTANTS = {
    name: value
    for file in sorted(PACKAGE.rglob("*.py"))
    for name, value in _strings(ast.parse(file.read_text(encoding="utf-8")).body, before=1_000_000).items()
    if name.isupper()
}
"""The package's string constants by name."""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


if __name__ in ("__main__", "<run_path>"):
    import mkdocs_gen_files

    for name, page in (("cli", command_page()), ("messages", message_page())):
        with mkdocs_gen_files.open(f"reference/{name}.md", "w") as file:
            file.write(page)
