"""Stage `evaluate`: questions x settings x repeats, decoded, graded, kept.

The folder belongs to the questions and the model. Settings are not part of its identity: a run with more settings or
repeats goes on in the same folder and computes only the cells that are missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from s1kit.analysis.results import PublishedNumber
from s1kit.analysis.settings import DIRECT, grid
from s1kit.engines import Engine, load_engine
from s1kit.engines.interface import ServerFigures, ServerMeter, add_up, close_engine
from s1kit.engines.references import with_dtype
from s1kit.engines.weights import fingerprints
from s1kit.errors import InputError
from s1kit.evaluate.benchmarks import is_on_hub, load_benchmarks, name_of
from s1kit.evaluate.comparators import ORIGINS, ask, changed, check_models, from_file, origins, settings_of, shards_of
from s1kit.evaluate.decode import Cell, Decoding, answer_room, direct_room, fill
from s1kit.evaluate.exit_rules import auto_settings, load_rules, refuse_labels
from s1kit.evaluate.published_numbers import read_numbers
from s1kit.executors import OnProgress, executor_of, load_executor
from s1kit.files import write_json, write_rows
from s1kit.grade import BatchGrader, case_of, load_grader
from s1kit.progress import meter, say
from s1kit.recipe import Comparator, Evaluate, Recipe
from s1kit.records import Generation, Question, Setting
from s1kit.stage import Run, Stage, StagePart, is_finished

IDENTITY = (
    "model",
    "baseline",
    "benchmarks",
    "num_questions",
    "answer_tokens",
    "direct_tokens",
    "format",
    "template",
    "dtype",
    "grader",
)
"""The part of the configuration that a folder of generations stands for."""


def evaluate(recipe: Recipe, run: Run) -> Stage:
    """Fill all cells that the recipe asks for and that are not there yet."""
    config = recipe.evaluate
    settings, asked = grid(config), settings_of(config.comparators)
    numbers = read_numbers(config.comparators, [name_of(given) for given in config.benchmarks])
    model, inputs = _model(recipe, run)
    rules = load_rules(config, model)
    settings += auto_settings(config, rules)
    stage = _open(recipe, run, inputs)
    questions = _questions(stage, recipe)
    refuse_labels(rules, questions)
    cells = [(q, setting, repeat) for q in questions for setting, num in settings for repeat in range(num)]
    there = set(_keys(stage))
    missing = [cell for cell in cells if _key(cell) not in there]
    stale = changed(stage, config.comparators)
    others = [s for s in asked if s in stale or not any(key[1] == s for key in there)]
    same_numbers = numbers == list(stage.rows("numbers", PublishedNumber))
    if stage.is_done and not missing and not others and same_numbers:
        return stage
    check_models([c for c in config.comparators if any(s in others for s in settings_of([c]))])
    stage.receipt_path.unlink(missing_ok=True)
    for path in shards_of(stage, stale):
        path.unlink()
    _fill(stage, Evaluating(model, config, recipe.seed), questions, missing, run.part)
    if run.part is not None:
        return stage
    _add_comparators(stage, config.comparators, others, questions, config.grader)
    if config.comparators:
        write_json(stage.folder / ORIGINS, origins(config.comparators))
    if not same_numbers:
        stage.write("numbers", PublishedNumber, numbers, shard=0)
    stage.counts["questions"] = len(questions)
    stage.counts["settings"] = len(settings) + len(asked)
    stage.counts["out"] = sum(1 for _ in _keys(stage))
    stage.figures["model"] = model
    stage.figures["computed now"] = len(missing)
    stage.finish()
    return stage


def identity_of(config: Evaluate) -> dict[str, Any]:
    """The settings that a generation depends on; which cells there are may change from run to run."""
    identity = {name: getattr(config, name) for name in IDENTITY}
    if "rejection_tries" in config.stated:
        identity["rejection_tries"] = config.rejection_tries
    return identity


def _open(recipe: Recipe, run: Run, inputs: Sequence[Path | tuple[str, str]]) -> Stage:
    config = recipe.evaluate
    # The checkpoint of this run is among the inputs.
    models = fingerprints(name for name in (config.model, config.baseline) if name)
    return run.open("evaluate", identity_of(config), recipe.seed, inputs, models)


def _fill(
    stage: Stage, work: Evaluating, questions: Sequence[Question], missing: Sequence[Cell], part: StagePart | None
) -> None:
    """The missing cells, of which this process does those of its part. What is refused before anything was made leaves
    nothing that would refuse the right command.
    """
    executor = executor_of(work.config) if missing else load_executor()
    num_engines = executor.num_workers * (part.of if part is not None else 1)
    size = _shard_size(len(questions), work.config.batch_size, num_engines)
    shards = _shards(stage, questions, missing, size, part)
    try:
        with (
            meter("evaluate", total=sum(len(cells) for _, cells in shards), unit="cells") as m,
            closing(executor.run(work, [cells for _, cells in shards], m.advance)) as done,
        ):
            for position, (generations, servers) in done:
                write_rows(shards[position][0], Generation, generations)
                add_up(stage.figures.setdefault("servers", {}), servers)
    except InputError:
        if part is None and not stage.shards("generations"):
            for path in stage.shards("questions"):
                path.unlink()
        raise


def _add_comparators(
    stage: Stage,
    comparators: Sequence[Comparator],
    settings: Sequence[Setting],
    questions: Sequence[Question],
    own_grader: str,
) -> None:
    """Ask or read the other models; a shard each."""
    by_id = {q.id: q for q in questions}
    grader = load_grader(own=own_grader) if settings else None
    for comparator in comparators:
        for setting in settings_of([comparator]):
            if setting not in settings or grader is None:
                continue
            if comparator.file:
                generations = from_file(comparator, questions)
            else:
                generations = ask(comparator, setting.target, questions, stage.folder / "journal.sqlite")
                spent = sum(g.cost_usd for g in generations)
                stage.figures["cost_usd"] = round(stage.figures.get("cost_usd", 0.0) + spent, 6)
            stage.write("generations", Generation, grade(generations, by_id, grader))


@dataclass(frozen=True)
class Evaluating:
    """Cells decoded and graded. Settings that travel to other processes and machines: see `s1kit.executors`."""

    model: str
    config: Evaluate
    seed: int

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[Cell], OnProgress], tuple[list[Generation], ServerFigures]]]:
        """The grader, and engines as cells need them."""
        grader = load_grader(own=self.config.grader)
        engines: dict[str, tuple[Engine, Decoding]] = {}

        servers = ServerMeter()

        def fill_shard(cells: Sequence[Cell], on_progress: OnProgress) -> tuple[list[Generation], ServerFigures]:
            generations: list[Generation] = []
            for model in dict.fromkeys(setting.model for _, setting, _ in cells):
                own = [cell for cell in cells if cell[1].model == model]
                if model not in engines:
                    engine = self._engine(model or self.model, own[0][1].method)
                    engines[model] = engine, self._how(engine)
                engine, how = engines[model]
                generations += fill(engine, own, how, on_progress)
            graded = grade(generations, {q.id: q for q, _, _ in cells}, grader)
            return graded, servers.take(engine for engine, _ in engines.values())

        try:
            yield fill_shard
        finally:
            for engine, _ in engines.values():
                close_engine(engine)

    def _engine(self, reference: str, method: str) -> Engine:
        config = self.config
        options: dict[str, Any] = {"max_batch": config.batch_size}
        reference = with_dtype(reference, config.dtype)
        if method == DIRECT:
            return load_engine(reference, format="direct", **options)
        if config.format:
            options["format"] = config.format
        return load_engine(reference, template=config.template, **options)

    def _how(self, engine: Engine) -> Decoding:
        context = getattr(engine, "context_tokens", None)
        return Decoding(
            self.seed,
            answer_room(self.config, context),
            self.config.rejection_tries,
            direct_tokens=direct_room(self.config, context),
        )


def _model(recipe: Recipe, run: Run) -> tuple[str, list[Path | tuple[str, str]]]:
    if recipe.evaluate.model:
        return recipe.evaluate.model, []
    checkpoint = run.folder / "train" / "checkpoint"
    if not is_finished(run.folder, "train"):
        raise InputError(
            "no model to evaluate: stage train has not finished",
            where=str(run.folder),
            fix="Run `s1kit train` first, or name one with evaluate.model=...",
        )
    return f"hf:{checkpoint}", sorted(checkpoint.glob("*.safetensors"))


def _questions(stage: Stage, recipe: Recipe) -> list[Question]:
    config = recipe.evaluate
    if stage.shards("questions"):
        kept = list(stage.rows("questions", Question))
        _refuse_changed(stage, kept, recipe)
        return kept
    shapes: Counter[str] = Counter()
    questions = load_benchmarks(config.benchmarks, config.num_questions, recipe.seed, shapes)
    for shape, num in shapes.most_common():
        say(f"evaluate: {num:,} rows of {shape}")
    stage.write("questions", Question, questions, shard=0)
    return questions


def _refuse_changed(stage: Stage, kept: Sequence[Question], recipe: Recipe) -> None:
    """Raises InputError where a benchmark on this machine has changed since the stage began."""
    config = recipe.evaluate
    before = {(q.metadata.get("benchmark"), *_known_of(q)) for q in kept}
    for given in config.benchmarks:
        if is_on_hub(given):
            continue
        read = load_benchmarks([given], config.num_questions, recipe.seed)
        now = {(name_of(given), *_known_of(q)) for q in read}
        if now != {one for one in before if one[0] == name_of(given)}:
            raise InputError(
                f"this stage was made from other inputs: {given} changed since",
                where=str(stage.folder),
                fix="Add --redo evaluate to do it and what follows again, or give another run with name=...",
            )


def _known_of(question: Question) -> tuple[str, ...]:
    """What verdicts on a question depend on."""
    return question.id, question.solution or "", *map(str, question.metadata.get("aliases") or ())


def _shard_size(num_questions: int, batch_size: int, num_engines: int) -> int:
    """Questions of a shard: at least two shards an engine, so that a killed run keeps something; at most a batch."""
    return max(1, min(batch_size, -(-num_questions // (2 * num_engines))))


def _shards(
    stage: Stage, questions: Sequence[Question], missing: Sequence[Cell], size: int, part: StagePart | None
) -> list[tuple[Path, list[Cell]]]:
    """The missing cells by shard, and where each goes."""
    # Shards are cut from all questions, so that a resumed run batches together what an unbroken one does.
    number_of = {q.id: i // size for i, q in enumerate(questions)}
    cells_of: dict[int, list[Cell]] = {}
    for cell in missing:
        cells_of.setdefault(number_of[cell[0].id], []).append(cell)
    step = 1 + max(number_of.values(), default=0)
    taken = set(stage.shards("generations"))
    shards = []
    for number, cells in sorted(cells_of.items()):
        if part is not None and not part.has(number):
            continue
        # Numbers of one shard are its own whatever else is written meanwhile: parts of an array do not meet.
        paths = (stage.shard_path("generations", n) for n in count(number, step))
        shards.append((next(path for path in paths if path not in taken), cells))
    return shards


def _key(cell: Cell) -> tuple[str, Setting, int]:
    question, setting, repeat = cell
    return (question.id, setting, repeat)


def _keys(stage: Stage) -> Iterator[tuple[str, Setting, int]]:
    """The cells that are filled, read without their texts."""
    import pyarrow.parquet as pq

    settings: dict[tuple[Any, ...], Setting] = {}
    for path in stage.shards("generations"):
        for row in pq.read_table(path, columns=["question_id", "setting", "repeat"]).to_pylist():
            values = tuple(row["setting"].items())
            if values not in settings:
                settings[values] = Setting.model_validate(row["setting"])
            yield row["question_id"], settings[values], row["repeat"]


def grade(
    generations: Iterable[Generation], questions: Mapping[str, Question], grader: BatchGrader
) -> list[Generation]:
    """The generations with verdict, evidence and final answer. A generation without an answer is wrong, and says so."""
    rows = list(generations)
    answers = list(dict.fromkeys((row.question_id, row.answer) for row in rows if row.answer.strip()))
    cases = [case_of(answer, questions[question_id]) for question_id, answer in answers]
    judged = dict(zip(answers, grader.grade(cases), strict=True))
    graded = []
    for row in rows:
        judgement = judged.get((row.question_id, row.answer))
        if judgement is None:
            update = {"verdict": "wrong", "evidence": row.note or "no answer", "final_answer": ""}
        else:
            update = judgement._asdict()
        graded.append(row.model_copy(update=update))
    return graded
