"""Questions to measure with: built-in sets by name, or any file of questions with answers.

A built-in set is read from the file `<name>.jsonl.gz` (or .jsonl, .csv, .parquet) in the folder that the environment
variable S1KIT_BENCHMARKS names, else from the package, else from the Hub. What was read is held against the pinned hash
of its questions; another text is evaluated all the same, and the receipt says so.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

from s1kit.errors import InputError, MissingExtra, nearest
from s1kit.extensions import load_extension
from s1kit.progress import say
from s1kit.questions import WholeFile, find_files, question_and_shape, whole_rows
from s1kit.records import Question

FOLDER = "S1KIT_BENCHMARKS"


@dataclass(frozen=True)
class Benchmark:
    """A published benchmark: its source, its size, its licence and the hash that identifies its questions."""

    hub: str
    """Data set on the Hub, with `/subset` after a colon where there are several."""
    split: str
    num: int
    licence: str
    ids_sha256: str = ""
    """Hash of the sorted question ids, one a line; empty where no copy was at hand to pin."""
    packaged: str = ""
    """Its file in the package, where the licence lets us ship it."""
    kind: str = ""
    """How the grader compares; empty: guessed."""


BENCHMARKS: Mapping[str, Benchmark] = {
    "aime24": Benchmark("HuggingFaceH4/aime_2024", "train", 30, "text (c) MAA", "aeedc8732da5a529"),
    "aime25": Benchmark("math-ai/aime25", "test", 30, "text (c) MAA", "c03d8b5a266395ca"),
    "aime26": Benchmark("MathArena/aime_2026", "train", 30, "CC BY-NC-SA 4.0; text (c) MAA"),
    "math500": Benchmark("HuggingFaceH4/MATH-500", "test", 500, "MIT; text AoPS/MAA", "354242958e49962b"),
    "gsm8k": Benchmark("openai/gsm8k:main", "test", 1319, "MIT", "5659fc2882067908", packaged="gsm8k_test.jsonl.gz"),
    "olympiadbench": Benchmark(
        "Hothan/OlympiadBench:OE_TO_maths_en_COMP",
        "train",
        675,
        "MIT",
        "62b12497cf02dda2",
        packaged="olympiadbench_math_en.jsonl.gz",
    ),
    "gpqa-diamond": Benchmark(
        "Idavidrein/gpqa:gpqa_diamond", "train", 198, "CC BY 4.0; not to be republished in plain text", kind="choice"
    ),
}
"""Pins are the first 16 hex digits. A Hub copy may differ from the pinned text in white space alone."""

NUM_TINY = 360
"""Questions of the benchmark `tiny`, unless a recipe says how many."""

LETTERS = "ABCD"


def names() -> list[str]:
    """The names of built-in benchmarks."""
    return sorted(["tiny", *BENCHMARKS])


def load_benchmarks(
    given: Sequence[str], num: int | None, seed: int, shapes: Counter[str] | None = None
) -> list[Question]:
    """The questions of all benchmarks, at most `num` of each, drawn with the seed, in the benchmark's own order.

    `shapes` counts how the rows of files were read, in words.

    Raises InputError for an unknown name, a question without an answer, and a question that appears twice.
    """
    if not given:
        raise InputError("no benchmark", where="evaluate.benchmarks", fix='Name one, for example ["tiny"].')
    questions = [_of(question, name_of(name)) for name in given for question in _load(name, num, seed, shapes)]
    _refuse_duplicates(questions)
    return questions


def is_on_hub(name: str) -> bool:
    """Whether a benchmark would be fetched: a built-in name that neither a folder nor the package holds."""
    return name in BENCHMARKS and _local(name, BENCHMARKS[name]) is None


def name_of(given: str) -> str:
    """A benchmark's name in reports: as given, or a file's name without its endings.

    >>> name_of("aime24"), name_of("sets/mine.jsonl.gz")
    ('aime24', 'mine')
    """
    return Path(given).name.split(".")[0]


def _of(question: Question, name: str) -> Question:
    return question.model_copy(update={"metadata": question.metadata | {"benchmark": name}})


def pin_of(questions: Iterable[Question]) -> str:
    """The hash that a set of questions is known by, whatever their order."""
    return hashlib.sha256("\n".join(sorted(q.id for q in questions)).encode()).hexdigest()[:16]


def _load(name: str, num: int | None, seed: int, shapes: Counter[str] | None) -> list[Question]:
    if name == "tiny":
        from s1kit.tiny.questions import held_out_questions

        return held_out_questions(num or NUM_TINY, seed)
    if name in BENCHMARKS:
        questions = _built_in(name, BENCHMARKS[name], seed)
    elif (own := load_extension(name, "benchmark", "evaluate.benchmarks")) is not None:
        questions = list(own())
    elif "/" in name or "." in name:
        read = list(_read(list(_rows_of(name)), name_of(name), "", seed))
        if shapes is not None:
            shapes.update(f"{name_of(name)}: {shape}" for _, shape in read)
        questions = [question for question, _ in read]
    else:
        fix = f"Give a file of questions, or a built-in name. {nearest(name, names())}"
        raise InputError(f"there is no benchmark {name!r}", where="evaluate.benchmarks", fix=fix)
    if not questions:
        raise InputError("the benchmark holds no question", where=name, fix="Give a file that has rows.")
    _refuse_unanswered(questions, name)
    if num is None or num >= len(questions):
        return questions
    kept = set(Random(f"{seed}:benchmark:{name}").sample(range(len(questions)), num))
    return [q for i, q in enumerate(questions) if i in kept]


def _built_in(name: str, benchmark: Benchmark, seed: int) -> list[Question]:
    path = _local(name, benchmark)
    if path is not None:
        rows = list(_rows_of(str(path)))
    else:
        rows = [(row, f"{benchmark.hub}, row {i}") for i, row in enumerate(_hub_rows(name, benchmark))]
    questions = [question for question, _ in _read(rows, name, benchmark.kind, seed)]
    found = pin_of(questions)
    if benchmark.ids_sha256 and found != benchmark.ids_sha256:
        say(f"{name}: the questions hash to {found}, not to the pinned {benchmark.ids_sha256}: another text")
    if len(questions) != benchmark.num:
        say(f"{name}: {len(questions)} questions, not {benchmark.num}")
    return questions


def _local(name: str, benchmark: Benchmark) -> Path | None:
    folder = os.environ.get(FOLDER, "")
    for ending in (".jsonl.gz", ".jsonl", ".csv", ".parquet") if folder else ():
        path = Path(folder) / f"{name}{ending}"
        if path.is_file():
            return path
    if benchmark.packaged:
        return Path(str(resources.files("s1kit.evaluate"))) / "data" / benchmark.packaged
    return None


def _hub_rows(name: str, benchmark: Benchmark) -> list[dict[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingExtra(f"reading {name} from the Hub", "datasets", extra="hub") from error
    repository, _, subset = benchmark.hub.partition(":")
    try:
        rows = load_dataset(repository, subset or None, split=benchmark.split)
    except (OSError, ValueError) as error:
        fix = f"Put it as {name}.jsonl into a folder and set {FOLDER} to that folder, or give its path."
        raise InputError(f"{name} cannot be read from the Hub: {error}"[:300], where=benchmark.hub, fix=fix) from error
    return [dict(row) for row in rows]


def _rows_of(pattern: str) -> Iterator[tuple[dict[str, Any], str]]:
    for path in find_files(pattern):
        yield from whole_rows(path)


def _read(rows: list[tuple[dict[str, Any], str]], name: str, kind: str, seed: int) -> Iterator[tuple[Question, str]]:
    """The questions of rows, each with how its row was read, in words."""
    file = WholeFile(lambda: (row for row, _ in rows))
    for row, where in rows:
        if "Correct Answer" in row and "Incorrect Answer 1" in row:
            yield permuted(row, seed, name), "GPQA, its options in an order drawn with the seed"
            continue
        try:
            question, shape = question_and_shape(row, name=name, file=file)
        except InputError as error:
            # Advice for the sources of a pool, which have settings that benchmarks have not.
            is_for_sources = any(setting in error.fix for setting in ("--allow-rejects", "columns =", "conversation ="))
            fix = _REPAIR if is_for_sources else error.fix
            raise InputError(error.what, where=where, fix=fix) from error
        if kind:
            question = question.model_copy(update={"metadata": question.metadata | {"kind": kind}})
        yield question, shape


_REPAIR = (
    "Call the column of the question `question` and that of the answer `answer`, or take such rows out of the file."
)


def permuted(row: Mapping[str, Any], seed: int, name: str = "gpqa-diamond") -> Question:
    """A GPQA row as a question with its four options in an order drawn from the seed and the row, which is recorded.

    `metadata["permutation"]` says for each letter which option stands there, 0 being the correct one.
    """
    options = [str(row["Correct Answer"]).strip(), *(str(row[f"Incorrect Answer {i}"]).strip() for i in (1, 2, 3))]
    stem = str(row["Question"]).strip()
    order = list(range(4))
    Random(f"{seed}:options:{stem}").shuffle(order)
    listed = "\n".join(f"{letter}) {options[i]}" for letter, i in zip(LETTERS, order, strict=True))
    return Question(
        text=f"{stem}\n\n{listed}\n\nAnswer with the letter of the correct option.",
        solution=LETTERS[order.index(0)],
        source=name,
        licence=BENCHMARKS["gpqa-diamond"].licence,
        domain=str(row.get("High-level domain") or ""),
        metadata={
            "kind": "choice",
            "permutation": order,
            "options": [options[i] for i in order],
            "source_id": str(row.get("Record ID") or ""),
        },
    )


def _refuse_unanswered(questions: Sequence[Question], name: str) -> None:
    without = [i for i, q in enumerate(questions, start=1) if not q.solution]
    if without:
        raise InputError(
            f"{len(without)} of {len(questions)} questions have no answer, the first is number {without[0]}",
            where=name,
            fix="Give each an answer in a column such as `answer`, or take those rows out.",
        )


def _refuse_duplicates(questions: Sequence[Question]) -> None:
    seen: dict[str, Question] = {}
    for question in questions:
        if question.id in seen:
            raise InputError(
                f"the question {question.text[:60]!r} appears twice",
                where=f"evaluate.benchmarks ({question.source}, {seen[question.id].source})",
                fix="Every question counts once: take the copy out.",
            )
        seen[question.id] = question
