"""The documentation is held against the code: its commands parse, its snippets run, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from s1kit.cli import parse
from s1kit.recipe import Recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    marks: str
    """The HTML comment on the line above, e.g. `needs: a GPU`."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"(?:<!-- ([^\n]*?) -->\n)?^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text[: found.start()].count("\n") + 1
            yield Block(page, line, found[2], found[1] or "", found[3])


def commands(block: Block) -> Iterator[list[str]]:
    """The s1kit commands of a shell block, as argument lists."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    for line in joined.splitlines():
        if not line.startswith("s1kit "):
            continue
        words = shlex.split(line, comments=True)
        yield words[1 : words.index("|") if "|" in words else None]


SHELL = [b for b in blocks() if b.language in ("", "bash", "console") and "s1kit " in b.text]
PYTHON = [b for b in blocks() if b.language == "python"]
RECIPES = [b for b in blocks() if b.language == "toml" and re.search(r"^name = ", b.text, re.MULTILINE)]
PATCHES = [b for b in blocks() if b.marks == "patch"]


def test_a_blocks_mark_is_the_comment_on_the_line_above_and_no_other() -> None:
    marks = {block.marks for block in blocks()} - {""}
    assert all(re.match(r"(needs|file): |(patch|output)$", mark) for mark in marks), marks
    assert "needs: GSM8K's test set in a file" in marks


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_command_of_the_documentation_parses(block: Block) -> None:
    for words in commands(block):
        if words[0] == "...":
            continue
        parse(words)


@pytest.mark.parametrize("block", RECIPES, ids=str)
def test_every_recipe_of_the_documentation_is_one(block: Block) -> None:
    Recipe.model_validate(tomllib.loads(block.text))


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_every_import_of_the_documentation_exists(block: Block) -> None:
    code = compile(block.text, str(block), "exec")
    imports = [line for line in block.text.splitlines() if re.match(r"(from|import) s1kit", line)]
    assert code
    exec("\n".join(imports), {})


def test_the_walk_through_the_machine_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = [b for b in PYTHON if b.page.name == "forcing.md"]
    exec(block.text, {})
    assert capsys.readouterr().out.strip() == block.text.strip().rpartition("# ")[2]


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    wrong = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if "://" in target or path.startswith("reference/") or not re.search(r"[./#]", target):
                continue
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                wrong.append(f"{page.name}: {target}")
    assert not wrong


def test_the_changelog_has_one_change_a_bullet_under_its_subject() -> None:
    """A paragraph of several changes, or one that stands outside of a subject, is not found by whom it concerns."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased = text.partition("## [Unreleased]")[2].partition("\n## ")[0]
    bullets = re.findall(r"^- .*\n(?:  .*\n)*", unreleased, re.MULTILINE)
    assert len(bullets) > 100
    assert [b for b in bullets if b.count("\n") > 5] == []
    assert [line for line in text.splitlines() if len(line) > 120] == []
    assert not re.search(r"^### \w+\n+- ", unreleased, re.MULTILINE)


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r": ([\w/]+\.md)$|- ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    there = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:]}
    assert there <= {a or b for a, b in named}


def anchors(page: Path) -> set[str]:
    """What the site makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_every_file_that_the_documentation_names_exists() -> None:
    wrong = []
    for page in PAGES:
        for name in re.findall(r"`((?:s1kit|tests|bench|runs|examples|docs)/[\w/.-]+\.(?:py|toml|md|sh|sbatch|yaml))`",
                               page.read_text(encoding="utf-8")):  # fmt: skip
            if not (ROOT / name).exists():
                wrong.append(f"{page.name}: {name}")
    assert not wrong


def test_every_file_of_the_tour_and_the_architecture_exists_in_the_package() -> None:
    wrong, num = [], 0
    for name in ("tour.md", "architecture.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for named in re.findall(r"`(?:s1kit/)?([a-z_]+/[\w/]*(?:\.py)?)`", text):
            if named.split("/")[0] in ("runs", "tests", "examples", "docs", "collect"):
                continue
            num += 1
            path = ROOT / "s1kit" / named
            if not path.exists() and not path.with_suffix(".py").exists():
                wrong.append(f"{name}: {named}")
    assert not wrong
    assert num > 40


def test_the_architecture_says_what_every_package_is_for() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    jobs = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    packages = {path.parent.name for path in (ROOT / "s1kit").glob("*/__init__.py")}
    assert {package for package in packages if f"`{package}/`" not in jobs} == set()


def test_the_patches_of_the_documentation_apply_and_work(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "s1kit", tmp_path / "s1kit", ignore=shutil.ignore_patterns("__pycache__"))
    for block in PATCHES:
        name = re.search(r"^\+\+\+ b/(.+)$", block.text, re.MULTILINE)
        assert name
        file = tmp_path / name[1]
        lines = block.text.split("@@\n")[1].splitlines()
        before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
        after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
        text = file.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{block}: the context is not there"
        file.write_text(text.replace(before, after), encoding="utf-8")
    draws = [
        {"question": f"q{q}", "tokens": 10 * n, "output": f"The answer is {(q + n) % 2}.", "gold": "0"}
        for q in range(9)
        for n in range(1, 9)
    ]
    (tmp_path / "draws.jsonl").write_text("".join(json.dumps(row) + "\n" for row in draws))
    script = (
        "from s1kit.forcing.formats import FORMATS; from s1kit.providers.catalog import find_model\n"
        "from s1kit.grade.extract import final_answer; from s1kit.cli import main\n"
        "print(FORMATS['mine'].open.strip(), find_model('chat:mine/some-model').base_url)\n"
        "print(final_answer('I say <verdict>42</verdict> now.').text)\n"
        "main(['report', '--from', 'draws.jsonl', '--out', 'report'])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert done.stdout.split()[:3] == ["<reflect>", "https://api.example.com/v1", "42"], done.stderr
    assert "longest of 4" in (tmp_path / "report" / "recorded" / "report" / "settings.csv").read_text(), done.stderr


def generated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_error_message_says_what_to_do() -> None:
    generate = generated()
    rows = list(generate._messages(generate.PACKAGE))
    assert len(rows) > 300
    # The list of faults of a recipe holds the advice for each.
    silent = [what for what, fix, _ in rows if not fix and "things in the recipe would be refused" not in what]
    assert silent == []


VERB = re.compile(
    r"\b(is|are|has|have|was|did|died|ended|can|could|cannot|may|would|hold|returned|failed)\b"
    r"|(?<! of)(?<!with)(?<!whose) [a-z]{3,}s\b"
)
"""A word that may be the verb of a message: one that ends in -s where it cannot be a noun's plural, or one of these."""


def test_an_error_message_is_a_sentence() -> None:
    """A thing alone ("a mixture of experts") does not say what is wrong with it."""
    generate = generated()
    things = {what for what, _, _ in generate._messages(generate.PACKAGE) if re.match(r"(an?|the|its) ", what)}
    assert len(things) > 100
    computed = re.compile(r"the [a-z ]+( \.\.\.)+")
    assert {what for what in things if not computed.fullmatch(what) and not VERB.search(what)} == set()


def test_troubleshooting_quotes_messages_that_exist() -> None:
    generate = generated()
    messages = [" ".join(what.split()) for what, _, _ in generate._messages(generate.PACKAGE)]
    remarks = "\n".join(path.read_text(encoding="utf-8") for path in generate.PACKAGE.rglob("*.py"))
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\*\*`([^`]+)`\.?\*\*", text, re.MULTILINE)
    assert len(quoted) >= 5
    for quote in quoted:
        parts = [part.strip() for part in re.split(r"\.\.\.|…", quote) if part.strip()]
        joined = re.sub(r'"\s*\n\s*f?"', "", remarks)
        assert any(all(part in message for part in parts) for message in messages) or all(
            part in joined for part in parts
        ), quote


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs_gen_files")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
                          cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    messages = (tmp_path / "site" / "reference" / "messages.html").read_text(encoding="utf-8")
    assert "which is not installed" in messages
