"""Everything in a recipe that can be refused, found before a stage runs: all faults at once, nothing sent or spent.

Each stage's own functions resolve its names and files, so that what is refused here is what the stage would refuse.
Data sets and models on the Hub are not fetched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from s1kit.cli.references import check_chat, check_engine, check_model, require
from s1kit.errors import InputError
from s1kit.executors import executor_of, load_executor
from s1kit.extensions import load_extension
from s1kit.grade import reference as solution_of
from s1kit.grade.load import find_grader
from s1kit.recipe import Distill, Evaluate, Recipe
from s1kit.records import Question
from s1kit.stage import RECEIPT

P = ParamSpec("P")
T = TypeVar("T")

PEEK = 20
"""Rows of each file of questions that are read; the stage itself reads all."""

BYTES_A_PARAMETER = 16
"""Bytes a parameter takes in float32 training: weight, gradient and two moments of the optimiser."""


class Fault(NamedTuple):
    """One thing that a stage would refuse."""

    stage: str
    error: InputError

    def __str__(self) -> str:
        return f"{self.stage}: {self.error}"


_COMMON = {"gemma", "gemma2", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
"""Architectures that every supported transformers trains: their folders are checked without importing it."""


def check_recipe(recipe: Recipe, stages: Sequence[str] | None = None, redone: Sequence[str] = ()) -> list[Fault]:
    """The faults of the recipe in the given stages, by default its own.

    A finished stage is not checked again unless it is one of `redone`.
    """
    checks: dict[str, Callable[[Recipe, _Collected], None]] = {
        "collect": _collect,
        "distill": _distill,
        "curate": _curate,
        "train": _train,
        "evaluate": _evaluate,
        "report": _report,
    }
    names = list(recipe.stages if stages is None else stages)
    faults: list[Fault] = []
    order = list(checks)
    if names != sorted(names, key=order.index):
        error = InputError(
            f"the stages stand as {', '.join(names)}",
            where="stages",
            fix=f"Give them in the order {', '.join(n for n in order if n in names)}.",
        )
        faults.append(Fault("recipe", error))
    for name in order:
        if name in names and (name in redone or not (recipe.folder / name / RECEIPT).exists()):
            found = _Collected(name)
            checks[name](recipe, found)
            faults += found.faults
    return faults


def refuse_faults(faults: Sequence[Fault]) -> None:
    """Raises one InputError that lists all faults; none where there is none."""
    if len(faults) == 1:
        raise faults[0].error
    if faults:
        lines = "\n".join(f"  {number}. {fault}" for number, fault in enumerate(faults, 1))
        raise InputError(f"{len(faults)} things in the recipe would be refused; nothing was done yet:\n{lines}")


class _Collected:
    """Runs checks of one stage and keeps what each of them refuses."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.faults: list[Fault] = []

    def run(self, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What the check gives; None where it refuses."""
        try:
            return check(*args, **kwargs)
        except InputError as error:
            self.faults.append(Fault(self.stage, error))
        except FileNotFoundError as error:
            self.add(f"there is no file {error.filename}", fix="Check the path in the recipe.")
        return None

    def add(self, what: str, where: str = "", fix: str = "") -> None:
        self.faults.append(Fault(self.stage, InputError(what, where=where, fix=fix)))


def _collect(recipe: Recipe, found: _Collected) -> None:
    from s1kit.pool.evaluation_names import ON_THE_HUB, shipped_sets
    from s1kit.pool.sentences import model_files
    from s1kit.pool.sources import expand

    config = recipe.collect
    if config.hub_folder and not Path(config.hub_folder).is_dir():
        fix = "Give the folder that holds <owner>/<name>/ of each data set, or leave it empty to ask the Hub."
        found.add(f"there is no folder {config.hub_folder!r}", "collect.hub_folder", fix)
    if not config.sources:
        found.add("the recipe names no source", "collect.sources", 'Add one, e.g. sources = [{ path = "mine.csv" }].')
    for source in config.sources:
        for each in found.run(expand, source, config.hub_folder) or []:
            found.run(_peek, each, recipe)
    if config.duplicates == "near":
        found.run(require, "datasketch", "collect.duplicates = near", "curate")
    if config.executor == "ray":
        num = config.processes if config.processes > 1 else None
        found.run(load_executor, "ray", num, address=config.address, cards_per_engine=0.0)
    if config.decontaminate == "none":
        return
    for name in config.against:
        if (
            name not in ON_THE_HUB
            and name != "tiny"
            and (name not in shipped_sets() or config.decontaminate == "semantic")
        ):
            found.run(_peek_set, name, config.decontaminate)
    if config.decontaminate == "semantic":
        if config.semantic is None:
            found.add(
                "decontaminate = 'semantic' has no sentence model",
                "collect.semantic.model",
                "Give its folder, e.g. collect.semantic.model=models/all-MiniLM-L6-v2.",
            )
        else:
            found.run(require, "torch", "collect.decontaminate = semantic", "semantic")
            found.run(lambda model: list(model_files(model)), config.semantic.model)
            if config.semantic.judge:
                found.run(check_chat, config.semantic.judge, "collect.semantic.judge")


def _peek(source: Any, recipe: Recipe) -> None:
    """The first questions of a file; of the Hub, whether it could be read at all."""
    from s1kit.pool.hub import local_copy
    from s1kit.pool.sources import kind_of, read_source

    kind = kind_of(source)
    if kind == "hub" and local_copy(source, recipe.collect.hub_folder) is None:
        if not source.optional and not source.files:
            require("datasets", f"reading {source.hub} from the Hub", "hub")
        return
    try:
        rejects: list[Any] | None = [] if recipe.collect.allow_rejects else None
        rows = read_source(source, recipe.seed, rejects, hub_folder=recipe.collect.hub_folder)
        num = sum(1 for _ in islice(rows, PEEK))
    except InputError:
        if source.optional:
            return
        raise
    if not num and not source.optional:
        raise InputError(
            "no question is read from it", where=source.path or source.builtin, fix="Give a file that has rows."
        )


def _peek_set(name: str, tier: str) -> None:
    from s1kit.pool.evaluation_sets import load_set, read_set

    if tier == "semantic":
        read_set(name)
    else:
        load_set(name, "s1" if tier == "s1" else "strict")
    if tier == "template":
        load_set(name, "template")


def _first_questions(recipe: Recipe) -> list[Question]:
    """The first questions of each source that can be read here."""
    from s1kit.pool.hub import local_copy
    from s1kit.pool.sources import expand, kind_of, read_source

    config = recipe.collect
    questions: list[Question] = []
    with suppress(InputError):  # said where the source is checked
        for source in [each for given in config.sources for each in expand(given, config.hub_folder)]:
            if kind_of(source) != "hub" or local_copy(source, config.hub_folder) is not None:
                with suppress(InputError):
                    questions += islice(read_source(source, recipe.seed, [], hub_folder=config.hub_folder), PEEK)
    return questions


def _check_own_teacher(recipe: Recipe, teacher: str) -> None:
    """The teachers without a model answer the first questions of each source: whether they can is known at once."""
    import asyncio

    from s1kit.distill.teachers import SolutionsTeacher, TinyTeacher

    questions = _first_questions(recipe)
    if teacher == "tiny":
        tiny = TinyTeacher()
        for question in questions:
            try:
                asyncio.run(tiny.ask(question, 0))
            except InputError as error:
                raise InputError(
                    f"the built-in teacher knows the built-in questions only, not {question.text[:60]!r}",
                    where="distill.teacher",
                    fix='Ask a model, or take "solutions" where your questions have worked solutions.',
                ) from error
        return
    traces = [asyncio.run(SolutionsTeacher().ask(question, 0)) for question in questions]
    if traces and all(trace.finish_reason == "empty" for trace in traces):
        raise InputError(
            f"the first {len(traces)} questions have no worked solutions, and a bare answer is no trace",
            where="distill.teacher",
            fix="Give the worked solution in a column of its own (solution), or ask a model.",
        )


def _distill(recipe: Recipe, found: _Collected) -> None:
    for config in recipe.distill.each:
        _check_teacher(recipe, config, found)
    config = recipe.distill
    if config.mode == "batch" and any(not each.teacher.startswith("chat:") for each in config.each):
        found.add(
            "a teacher that is no provider's has no batch API", "distill.mode", "Use mode=online, or leave it out."
        )
    found.run(executor_of, config)
    if not config.until_correct:
        return
    if config.grader:
        found.run(find_grader, config.grader)
    else:
        found.run(require, "math_verify", "distill.until_correct", "grade")
    questions = _first_questions(recipe)
    if questions and all(solution_of(question) is None for question in questions):
        found.add(
            f"the first {len(questions)} questions have no solution, so no answer can be found correct",
            "distill.until_correct",
            "Give questions with solutions, or use num_traces.",
        )


def _check_teacher(recipe: Recipe, config: Distill, found: _Collected) -> None:
    from s1kit.providers.terms import terms_of

    before = len(found.faults)
    scheme, _, rest = config.teacher.partition(":")
    match scheme:
        case "tiny" | "solutions" if not rest:
            found.run(_check_own_teacher, recipe, config.teacher)
        case "recorded" if rest:
            if not Path(rest).is_file():
                found.add("there is no file of recorded traces", rest, "Give recorded:<file>.")
        case "chat":
            found.run(
                check_chat,
                config.teacher,
                "distill.teacher",
                base_url=config.base_url,
                headers=config.headers,
                key_file=config.key_file,
                price=config.price,
                prices_path=config.prices,
            )
        case "hf" | "vllm" | "llama.cpp" | "completions":
            found.run(check_engine, config.teacher, "distill.teacher")
        case _ if found.run(load_extension, config.teacher, "teacher", "distill.teacher") is not None:
            pass
        case _ if len(found.faults) == before:
            found.run(check_engine, config.teacher, "distill.teacher")
    if "{question}" not in config.prompt:
        found.add("the prompt does not contain {question}", "distill.prompt", "Put {question} where the question goes.")
    is_model = scheme in ("chat", "hf", "vllm", "llama.cpp", "completions")
    if "train" in recipe.stages and not recipe.train.acknowledge_terms and is_model:
        entry = terms_of(config.teacher)
        if entry.needs_reason:
            found.add(
                f"{entry.sentence}; train would refuse the traces after they were paid for",
                "distill.teacher",
                'Take another teacher, or say why you may with train.acknowledge_terms="...".',
            )


def _curate(recipe: Recipe, found: _Collected) -> None:
    from s1kit.curate.quality import rules_of
    from s1kit.curate.selection import find_selector

    config = recipe.curate
    for rule in config.quality:
        found.run(rules_of, [rule])
    for name in [config.selection, *config.also]:
        found.run(find_selector, name)
    if found.run(load_extension, config.domains, "domains", "curate.domains") is not None:
        pass
    elif ":" in config.domains:
        found.run(check_model, config.domains, "curate.domains")
    elif config.domains not in ("source", "offline"):
        found.add(
            f"domains is {config.domains!r}",
            "curate.domains",
            "Known: source, offline, or a model reference such as chat:deepseek/deepseek-chat.",
        )
    for student in config.students:
        found.run(check_model, student, "curate.students")
    found.run(executor_of, config)
    low, high = config.keep_band
    if not 0 <= low <= high <= 1:
        found.add(f"keep_band is [{low:g}, {high:g}]", "curate.keep_band", "Give two shares from 0 to 1, in order.")
    if config.judge:
        found.run(check_chat, config.judge, "curate.judge")
    if config.grader:
        found.run(find_grader, config.grader)
    elif config.students or "complete" in config.quality:
        found.run(require, "math_verify", "grading", "grade")


def _train(recipe: Recipe, found: _Collected) -> None:
    from s1kit.forcing.formats import find_format
    from s1kit.train.reference import base_folder
    from s1kit.train.shapes import SHAPES

    train = recipe.train
    num_known = len(found.faults)
    if train.format:
        found.run(find_format, train.format)
    is_known = len(found.faults) == num_known
    num_before = len(found.faults)
    for package in ("torch", "transformers"):
        found.run(require, package, "fine-tuning", "train")
    if train.lora:
        found.run(require, "peft", "train.lora", "train")
        if train.lora.quantize:
            found.run(require, "bitsandbytes", "train.lora.quantize", "qlora")
    if train.layout.attention == "flash":
        found.run(require, "flash_attn", "train.layout.attention = flash", "flash")
    if train.layout.fp8:
        found.run(require, "torchao", "train.layout.fp8", "fp8")
    for tracker in train.layout.trackers:
        found.run(require, tracker, "train.layout.trackers", tracker)
    has_packages = len(found.faults) == num_before
    base = found.run(base_folder, train.base)
    on_hub = train.tokenizer.startswith("hf:")
    if train.tokenizer and not on_hub and not Path(train.tokenizer).expanduser().exists():
        fix = "Give a folder, a tokenizer.json(.gz) or hf:<Hub id>."
        found.add(f"there is no {train.tokenizer}", "train.tokenizer", fix)
        return
    is_here = not on_hub and base is not None and bool(train.tokenizer or Path(base[1]).is_dir() or base[1] in SHAPES)
    if is_here and is_known and has_packages:
        found.run(_check_tokenizer, recipe)
    if base and has_packages:
        found.run(_check_room, recipe)


def _check_tokenizer(recipe: Recipe) -> None:
    """The tokenizer has the format's delimiters, and the model room for its tokens.

    The files of a folder of a common architecture say so at once; anything else is opened with transformers, whose
    import takes seconds and which knows what it can load.
    """
    from s1kit.forcing.detection import choose_format
    from s1kit.forcing.formats import load_format
    from s1kit.forcing.tokenizer import FileTokenizer
    from s1kit.train.encoded import check_format
    from s1kit.train.reference import base_folder, check_config

    train = recipe.train
    folder = Path(base_folder(train.base)[1]).expanduser()
    if not train.tokenizer and all((folder / name).is_file() for name in ("tokenizer.json", "config.json")):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") in _COMMON:
            files = FileTokenizer(folder)
            check_format(files, choose_format(train.format or None, load_format(folder), files, train.template))
            check_config(config, len(files.get_vocab()))
            return
    from s1kit.train.base import load_config, load_format_and_tokenizer

    fmt, tokenizer = load_format_and_tokenizer(train)
    check_format(tokenizer, fmt)
    load_config(train.base, tokenizer)


def _check_room(recipe: Recipe) -> None:
    """Disk for the checkpoints, and on a machine without a GPU the memory that full fine-tuning takes."""
    from s1kit.train.devices import has_gpu
    from s1kit.train.disk import check_disk
    from s1kit.train.estimate import shape_of
    from s1kit.train.packing import batches

    train = recipe.train
    try:
        shape = shape_of(train.base)
    except InputError:  # on the Hub, and of a size that is not known by name
        return
    there = next(p for p in [recipe.folder / "train", *recipe.folder.absolute().parents] if p.exists())
    num_steps = len(batches(recipe.curate.num, train.batch_size, train.epochs, train.max_steps, recipe.seed))
    check_disk(there, shape, train, num_steps)
    if train.lora is not None or has_gpu():
        return
    needed, free = shape.parameters * BYTES_A_PARAMETER, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > free:
        raise InputError(
            f"training {shape.parameters / 1e9:.1f}B parameters takes {needed / 1e9:,.0f} GB and more of memory; "
            f"this machine has {free / 1e9:,.0f} GB and no GPU",
            where="train.base",
            fix='Train on a machine with GPUs, take a smaller base, or stop before with stages=["collect", ...].',
        )


def _evaluate(recipe: Recipe, found: _Collected) -> None:
    from s1kit.analysis.settings import grid
    from s1kit.evaluate.auto import OWN
    from s1kit.evaluate.comparators import check_models, settings_of

    config = recipe.evaluate
    found.run(grid, config)
    found.run(executor_of, config)
    for reference, where in ((config.model, "evaluate.model"), (config.baseline, "evaluate.baseline")):
        if reference:
            found.run(check_engine, reference, where)
    if not config.model and "train" not in recipe.stages and not (recipe.folder / "train" / RECEIPT).exists():
        found.add("there is no model to evaluate", "evaluate.model", "Name one, or train in the same run.")
    if not config.benchmarks:
        found.add("no benchmark", "evaluate.benchmarks", 'Name one, for example ["tiny"].')
    if config.auto and (config.model or OWN not in config.auto):  # the model's own rule comes with the checkpoint
        found.run(_check_rules, config, recipe.seed)
    needs_formulas = [found.run(_check_benchmark, name, recipe) for name in config.benchmarks]
    found.run(_check_held_out, recipe)
    found.run(settings_of, config.comparators)
    found.run(check_models, config.comparators)
    for comparator in config.comparators:
        for file in (comparator.file, comparator.numbers if comparator.numbers != "s1-paper" else ""):
            if file and not Path(file).exists():
                found.add(f"there is no file {file!r}", "evaluate.comparators", "Check the path.")
    if config.grader:
        found.run(find_grader, config.grader)
    elif any(needs_formulas):
        found.run(require, "math_verify", "grading", "grade")


def _check_rules(config: Evaluate, seed: int) -> None:
    """The exit rules are there, and none was calibrated on a question of a benchmark on this machine."""
    from s1kit.evaluate.auto import load_rules, refuse_labels
    from s1kit.evaluate.benchmarks import is_on_hub, load_benchmarks

    here = [name for name in config.benchmarks if not is_on_hub(name)]
    refuse_labels(load_rules(config, config.model), load_benchmarks(here, config.num_questions, seed) if here else [])


def _check_held_out(recipe: Recipe) -> None:
    """A file that is trained on and evaluated on measures memory."""
    if "train" not in recipe.stages:
        return
    trained = {path.resolve() for s in recipe.collect.sources if s.path for path in map(Path, glob(s.path))}
    for name in recipe.evaluate.benchmarks:
        path = Path(name)
        if path.is_file() and path.resolve() in trained and name not in recipe.collect.against:
            raise InputError(
                f"{name} is both a source of the training questions and a benchmark",
                where="evaluate.benchmarks",
                fix="Keep some questions in a file of their own, and name that one here and in collect.against.",
            )


def _check_benchmark(name: str, recipe: Recipe) -> bool:
    """A benchmark on this machine is read whole; of one on the Hub it is known only whether it could be.

    True where its answers may be formulas, which are compared by math-verify: any but letters of options.
    """
    from s1kit.evaluate.benchmarks import is_on_hub, load_benchmarks
    from s1kit.grade import reference
    from s1kit.grade.choice import is_letter

    if is_on_hub(name):
        require("datasets", f"reading {name} from the Hub", "hub")
        return True
    questions = load_benchmarks([name], recipe.evaluate.num_questions, recipe.seed)
    return not all(is_letter(reference(question) or "") for question in questions)


def _report(recipe: Recipe, found: _Collected) -> None:
    found.run(require, "matplotlib", "the report", "report")
