"""All settings of a run. A recipe is a TOML file, or the name of a built-in one, with `key=value` overrides on top.

    [train]
    learning_rate = 1e-5        # s1kit run my.toml train.learning_rate=2e-5

A key that does not exist is an error that suggests the nearest: a setting is never ignored.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from s1kit.errors import InputError, nearest


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Workers(Config):
    """Where a stage's shards are done. It decides how fast, never what comes out."""

    executor: Literal["local", "ray"] = "local"
    """`local`: this machine; `ray`: a Ray cluster, whose actors hold an engine each."""
    address: str = ""
    """Address of the Ray cluster: `host:port` of its head, `ray://host:port`, or `auto` for the one this machine is
    part of; empty: RAY_ADDRESS, and without that a new one on this machine."""
    num_engines: int | None = Field(default=None, ge=1)
    """Engines at work at once, each in a process of its own. None: one here; with Ray as many as there are cards, and
    without cards one a processor."""
    cards_per_engine: float | None = Field(default=None, ge=0)
    """Cards (GPUs) of each engine on Ray: a share such as 0.5 where several fit on one card, or the size of its tensor
    parallelism. None: one where there are cards."""


WORKERS = frozenset(Workers.model_fields)
"""Settings that are no part of a stage's result."""


class Source(Config):
    """Where questions come from: exactly one of `builtin`, `path` and `hub`."""

    builtin: str = ""
    """`tiny`: the question families that ship with s1kit; `s1`: the paper's sixteen sources on the Hub; `math`: the
    mathematical ones of the README's figures, on the Hub too."""
    only: list[str] = Field(default_factory=list)
    """The data sets of a built-in pool to take, by name; empty: all."""
    path: str = ""
    """A .jsonl, .jsonl.gz, .csv or .parquet file; several with a glob such as `pool/*.jsonl.gz`."""
    hub: str = ""
    """A data set on the Hugging Face Hub."""
    files: list[str] = Field(default_factory=list)
    """Files of the Hub data set, as globs, e.g. `["data/train-*.parquet"]`. Without them the package `datasets` finds
    those of `subset` and `split`; it reads no data set that is a script."""
    subset: str = ""
    split: str = "train"
    revision: str = ""
    """Commit, tag or branch of the Hub data set; pin it to draw the same pool again."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our field to the source's column, e.g. `{ text = "problem" }`; the rest is guessed from the usual names."""
    template: str = ""
    """Puts the question's text together from columns, e.g. `{passage}\\n\\n{question}`; a list has a line each."""
    conversation: bool = False
    """Take a row's whole conversation, with its system message, turns, tools and their results, as the question, and
    the model's last message as the reference; otherwise the first exchange is the question."""
    keep: dict[str, str | int] = Field(default_factory=dict)
    """Column to the value that its rows must have; also `<=2021`, `not empty` and `test/*`. An empty string matches
    none."""
    shuffle_options: bool = False
    """Put the template's options `(A) ... (D)`, of which the first is right, in an order drawn from their text."""
    name: str = ""
    """The `source` of its rows where they do not say it themselves."""
    licence: str = ""
    num: int | None = None
    """At most so many rows, from the start."""
    optional: bool = False
    """Go on without it, and say so, when it cannot be read."""


class Semantic(Config):
    """What tier `semantic` adds to `strict`: questions that mean an evaluation question, whatever their words."""

    model: str
    """Folder of a sentence-embedding model (config.json, tokenizer.json, .safetensors), e.g. all-MiniLM-L6-v2."""
    similarity: float = Field(default=0.85, gt=0, le=1)
    """Cosine from which on a question is a candidate. What is right depends on the model: the page shows the pairs."""
    judge: str = ""
    """A chat model that says which candidates are the evaluation question again."""
    unjudged_similarity: float = Field(default=0.9, gt=0, le=1)
    """Cosine from which on a candidate is dropped where `judge` is empty; the others are listed and stay."""


class Collect(Config):
    """questions <- sources, less duplicates and what overlaps with evaluation sets."""

    sources: list[Source] = Field(default_factory=list)
    hub_folder: str = ""
    """A folder with copies of Hub data sets, each in `<owner>/<name>/` as `hf download --local-dir` writes it. What
    is there is read from there, and the Hub is asked for the rest."""
    duplicates: Literal["none", "exact", "near"] = "near"
    near_threshold: float = Field(default=0.9, gt=0, le=1)
    """Jaccard similarity of word shingles from which on two questions are near duplicates."""
    decontaminate: Literal["none", "s1", "strict", "template", "semantic"] = "s1"
    """`s1`: any shared lower-cased word 8-gram drops the question, as in the s1 release (data/collect_data.py).
    `strict`: half of an evaluation question's n-grams do. `template`: also the same sentences with other numbers,
    letters or names. `semantic`: also what a sentence model finds near and a judge calls the same."""
    against: list[str] = Field(default_factory=list)
    """Evaluation sets: built-in names, or files like those of a source."""
    coverage: float = Field(default=0.5, gt=0, le=1)
    """Share of an evaluation question's informative n-grams from which on `strict`, and the tiers that add to it, drop
    a question."""
    semantic: Semantic | None = None
    """Settings of tier `semantic`, which needs them."""
    executor: Literal["local", "ray"] = "local"
    """Where batches of the pool are looked at; the rows that come out are the same."""
    address: str = ""
    """Address of the Ray cluster, as in `evaluate.address`."""
    processes: int = Field(default=1, ge=1)
    """Worker processes of the executor; 1 on Ray: one a processor."""
    allow_rejects: bool = False
    """Go on with the good rows of a broken file; the others are written to rejects.jsonl with their line numbers."""


class Teaching(Config):
    """One teacher, and how it is asked."""

    teacher: str = "tiny"
    """`tiny`, `recorded:<file>`, `solutions` (a question's published solution is its trace), or a model reference."""
    prompt: str = "{question}"
    """What is asked; `{question}` stands for the question's text."""
    system: str = ""
    format: str = ""
    """Thinking format of a local engine; empty: found from the model's files."""
    template: dict[str, Any] = Field(default_factory=dict)
    """Switches passed to a local engine's chat template, e.g. `{ enable_thinking = true }`."""
    max_output_tokens: int = Field(default=32768, ge=1)
    """Thinking and answer together. A local engine takes what its context holds, where that is less."""
    temperature: float | None = Field(default=None, ge=0)
    """None: the provider's own; of a local engine, what the model's generation_config.json says."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    thinking_budget: int | None = Field(default=None, ge=0)
    """Tokens of thinking at most, where the provider takes such a limit."""
    reasoning_effort: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the provider's request body."""
    concurrency: int = Field(default=64, ge=1)
    """Requests in flight at most."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """None: as the provider's headers say, else as fast as it accepts."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    timeout_seconds: float = Field(default=1800.0, gt=0)
    """For one reply."""
    stream: bool = True
    """Ask for replies as streams, where the provider offers them."""
    price: str | dict[str, float] = ""
    """`{ input = 0.55, output = 2.19 }` in dollars per million tokens, "unknown" or "free"; empty: from the table."""
    base_url: str | list[str] = ""
    """Where the provider listens, if not at its own address; several servers of one model share the requests."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further HTTP headers; a value `env:NAME` is read from the environment."""
    key_file: str = ""
    """A file that holds the key; empty: the environment, e.g. GEMINI_API_KEY."""


class Distill(Teaching, Workers):
    """traces <- the teachers, each asked every question."""

    teachers: list[Teaching] = Field(default_factory=list)
    """Several teachers instead of `teacher`: model references, or tables such as `{ teacher = "chat:...", price =
    "free" }`, whose other settings are this section's. The cap is one for all of them."""
    num_traces: int = Field(default=1, ge=1)
    """Replies of each teacher to each question."""
    until_correct: int = Field(default=0, ge=0)
    """Ask each teacher again until its answer is graded correct, at most so many times; 0: `num_traces` times."""
    grader: str = ""
    """The grader of `until_correct`, as in `curate.grader`; empty: s1kit's."""
    max_cost_usd: float | None = Field(default=None, ge=0)
    """Never spend more; None: no cap."""
    mode: Literal["online", "batch"] = "online"
    """`batch`: through the provider's batch API, at half the price, within a day."""
    poll_seconds: float = Field(default=60.0, gt=0)
    """Between two looks at a batch job."""
    prices: str = ""
    """A file of `[[price]]` entries that goes before the published prices; docs/teachers.md shows its form."""
    retry: list[str] = Field(default_factory=list)
    """Finish reasons, such as `malformed`: replies that ended so are asked again."""
    max_unusable: float = Field(default=0.2, ge=0, le=1)
    """The share of replies that may be failed, malformed, empty, refused or cut before the stage ends with an error."""
    engine_shard: int | None = Field(default=None, ge=1)
    """Replies that an engine of a local teacher gives before they are kept, where several engines are at work. None:
    64."""
    journal: str = ""
    """Where replies are kept; empty: `journal.sqlite` beside the run folders, shared by all runs."""

    @field_validator("teachers", mode="before")
    @classmethod
    def _references(cls, given: Any) -> Any:
        if not isinstance(given, list):
            return given
        return [{"teacher": entry} if isinstance(entry, str) else entry for entry in given]

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> Self:
        if self.teachers and self.teacher not in ("", "tiny"):
            raise InputError(
                f"teacher is {self.teacher!r} beside teachers",
                where="distill.teachers",
                fix="Leave one of them out, or set distill.teacher to an empty string.",
            )
        names = [each.teacher if "teacher" in each.model_fields_set else "" for each in self.teachers]
        if not all(names):
            raise InputError(
                "an entry of teachers names no teacher", where="distill.teachers", fix='Write { teacher = "..." }.'
            )
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(
                f"teachers names {twice!r} twice",
                where="distill.teachers",
                fix="For several replies of one teacher set distill.num_traces.",
            )
        if self.until_correct and self.num_traces > 1:
            raise InputError(
                f"num_traces is {self.num_traces} and until_correct is {self.until_correct}",
                where="distill.until_correct",
                fix="Both say how often to ask: leave one of them out.",
            )
        return self

    @property
    def each(self) -> list[Distill]:
        """The section as it holds for each teacher by itself."""
        if not self.teachers:
            return [self]
        return [
            self.model_copy(update={name: getattr(entry, name) for name in entry.model_fields_set} | {"teachers": []})
            for entry in self.teachers
        ]


class Curate(Workers):
    """samples <- traces that pass quality and difficulty, then a seeded selection."""

    quality: list[str] = Field(default_factory=lambda: ["s1", "complete"])
    """Rules by name, or sets of rules: `s1`, `complete`. A trace without thinking is dropped whatever they say."""
    students: list[str] = Field(default_factory=list)
    """Models that attempt each question; what they answer is dropped as too easy. None: no difficulty filter."""
    num_attempts: int = Field(default=1, ge=1)
    """Attempts of each student at each question."""
    keep_band: tuple[float, float] = (0.0, 0.0)
    """Keep questions whose share of correct attempts lies within, inclusive. s1: (0, 0), every student fails."""
    attempt_tokens: int = Field(default=1024, ge=1)
    """Room of an attempt's answer."""
    attempt_temperature: float | None = Field(default=None, ge=0)
    """None: greedy for one attempt, 0.7 for several."""
    attempt_batch: int = Field(default=256, ge=1)
    """Attempts decoded together."""
    attempt_shard: int | None = Field(default=None, ge=1)
    """Questions that an engine takes at a time, and that are written together: what a killed run may lose, and with
    several engines what one may still be at when the others are done. None: 1,024."""
    domains: Literal["offline", "source"] | str = "source"
    """How questions get a domain: `source` (the source's name), `offline` (keywords), or a model reference."""
    selection: str = "s1"
    """Preset: s1, s1-notebook, random, longest, diverse, full, limo, shortest-correct."""
    judge: str = ""
    """A chat model asked where the grader's rules disagree; empty: the grader abstains there."""
    grader: str = ""
    """A grader of your own as `module:function`, which gets answer, solution, kind and question; empty: s1kit's."""
    also: list[str] = Field(default_factory=list)
    """Further presets drawn from the same candidates, for comparison; each in shards of its name."""
    num: int = Field(default=1000, ge=1)
    """Samples to select."""


class Lora(Config):
    """Low-rank adapters on every linear layer, merged into the base when the checkpoint is written."""

    rank: int = Field(default=256, ge=1)
    """Schulman et al., "LoRA Without Regret" (2025): 256 on all linear layers, with ten times the learning rate."""
    alpha: float = Field(default=512, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    quantize: bool = False
    """QLoRA: the frozen base in 4 bits (NF4); needs bitsandbytes and a CUDA card."""


class Cluster(Config):
    """The machines that `s1kit estimate` assumes; without this section, the one it runs on. Training itself takes
    what it finds."""

    card: str = "H100"
    """A name that s1kit/train/flops.py knows."""
    num_cards: int = Field(default=16, ge=1)
    cards_per_node: int = Field(default=8, ge=1)
    network_gbps: float = Field(default=400.0, gt=0)
    """Between nodes, of each card."""
    efficiency: float | None = Field(default=None, gt=0, le=1)
    """Operations done, over the peak, while a card is busy; None: from the table in s1kit/train/measured.py."""


class Layout(Config):
    """How training lies on the hardware. It changes speed and memory, never the objective or the order of the data."""

    context_parallel: int = Field(default=1, ge=1)
    """Processes that share each sequence (Ulysses); must divide the number of processes and the attention heads."""
    shard: Literal["full", "node"] = "full"
    """FSDP2 over all processes, or within a node with copies across nodes (HSDP) where the network is slow."""
    reshard_after_forward: bool = True
    """Free a layer's gathered weights after its forward pass; False costs memory and saves one gather a layer."""
    prefetch: int = Field(default=1, ge=0)
    """Layers whose weights are gathered ahead of their use."""
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    """What is recomputed in the backward pass: nothing, all but attention and every other matrix product, or all."""
    attention: Literal["auto", "sdpa", "varlen", "flash"] = "auto"
    """`sdpa`: document by document, any device; `varlen`: torch's own kernel; `flash`: the flash-attn package."""
    loss_chunk_tokens: int = Field(default=2048, ge=1)
    """Tokens whose logits exist at a time."""
    compile: bool = False
    """torch.compile each layer."""
    fp8: bool = False
    """Matrix products in float8; needs torchao and a card that has it (H100, H200, B200)."""
    master_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights that the optimiser holds. bfloat16 halves memory, and rounds small steps away."""
    trackers: list[Literal["tensorboard", "wandb"]] = Field(default_factory=list)
    """Besides log.jsonl."""
    dollars_per_gpu_hour: float = Field(default=2.0, ge=0)
    """For the dollars in the log and in `s1kit estimate`; 0 on a machine that is your own. No dollars without a GPU."""
    peak_tflops: float = Field(default=0.0, ge=0)
    """Dense bf16 peak of one card, against which MFU is stated; 0: the data sheet's, by the card's name."""
    cluster: Cluster = Cluster()


class Train(Config):
    """checkpoint <- samples. The defaults are the paper's (App. C, train/sft.sh)."""

    base: str = "hf:Qwen/Qwen2.5-32B-Instruct"
    """Model reference to fine-tune; `random:<folder>` initialises the folder's config.json at random, and
    `random:<shape>` one of s1kit/train/shapes.py."""
    tokenizer: str = ""
    """A folder, a tokenizer.json(.gz) file or `hf:<Hub id>`, where it is not the base's own."""
    format: str = "s1"
    """Thinking format to train: a known name, or `module:function` of your own that returns a ThinkingFormat; empty:
    the base's own, found from its files."""
    template: dict[str, Any] = Field(default_factory=dict)
    """Switches passed to the base's chat template, and set in the checkpoint's, e.g. `{ thinking = true }`."""
    epochs: int = Field(default=5, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after so many optimiser steps; None: all epochs."""
    batch_size: int = Field(default=16, ge=1)
    """Sequences in an optimiser step, over all processes."""
    learning_rate: float = Field(default=1e-5, gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps with a linear warm-up; then cosine to zero."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=1e-4, ge=0)
    max_grad_norm: float | None = 1.0
    max_length: int = Field(default=32768, ge=8)
    """Tokens a sample may have; a longer one is an error unless `drop_too_long`."""
    drop_too_long: bool = False
    loss_normalization: Literal["per_sequence", "per_token"] = "per_sequence"
    """`per_sequence` is s1's: the mean over a sequence's tokens, then over sequences."""
    micro_batch_tokens: int = Field(default=16384, ge=8)
    """Tokens in a forward pass; a batch is packed into as few passes as possible."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    save_every: int = Field(default=50, ge=1)
    """Optimiser steps between resumable checkpoints."""
    lora: Lora | None = None
    """None: all weights are trained."""
    layout: Layout = Layout()
    acknowledge_terms: str = ""
    """Why traces are used whose teacher's terms forbid it, set conditions or are not known; in the model card."""


class Comparator(Config):
    """Another model beside the one under evaluation: asked now, or read from a file of outputs or of numbers."""

    model: str = ""
    """A remote model, `chat:<provider>/<model>`, asked the same questions."""
    effort: list[str] = Field(default_factory=lambda: [""])
    """Levels of `reasoning_effort` to ask with; empty: the provider's own."""
    max_output_tokens: int = Field(default=32768, ge=1)
    base_url: str = ""
    """Address of the provider's server, where it is not the usual one."""
    max_cost_usd: float | None = Field(default=None, ge=0)
    """Over all efforts; what was paid before counts. None: no cap."""
    price: str | dict[str, float] = ""
    """As `distill.price`; empty: from the table of prices."""
    file: str = ""
    """Published outputs: sample files of lm-evaluation-harness, or rows with question, answer and thinking."""
    numbers: str = ""
    """Published accuracies: a file with name, benchmark, accuracy_percent, source, and where known num_questions,
    thinking_tokens, date; or `s1-paper`."""
    name: str = ""
    """What the report calls the file of outputs."""


class Evaluate(Workers):
    """generations <- questions x settings x repeats, decoded, graded."""

    model: str = ""
    """Model reference; empty: the checkpoint this run trained."""
    format: str = ""
    """The model's thinking format; empty: found from its files. The baseline's is always `direct`."""
    template: dict[str, Any] = Field(default_factory=dict)
    """Switches passed to the model's chat template, e.g. `{ enable_thinking = true }`."""
    baseline: str = ""
    """A model that answers directly, for comparison; empty: none."""
    benchmarks: list[str] = Field(default_factory=list)
    """Built-in names, or files of questions."""
    grader: str = ""
    """A grader of your own as `module:function`, as in `curate.grader`; empty: s1kit's."""
    num_questions: int | None = Field(default=None, ge=1)
    """At most so many a benchmark, drawn with the seed."""
    max_tokens: list[int] = Field(default_factory=list)
    """Thinking budgets, each evaluated without waits and with the largest number of `num_waits`."""
    num_waits: list[int] = Field(default_factory=lambda: [0])
    """Numbers of Waits, each evaluated under the largest budget."""
    wait: str | None = None
    """What replaces a stop; None: the thinking format's own."""
    min_tokens: list[int] = Field(default_factory=list)
    """Least thinking, each evaluated under the largest budget: stops below it become Waits."""
    answer_tokens: int | None = Field(default=None, ge=1)
    """Room kept for an answer after thinking; None: 1,024, or a quarter of the model's context where that is less."""
    direct_tokens: int | None = Field(default=None, ge=1)
    """Room of the baseline's answer, which holds its reasoning; None: the largest of `max_tokens` and the answer's room
    together, and without `max_tokens` all that the context leaves."""
    votes: list[int] = Field(default_factory=list)
    """Sizes of the majority vote, the baseline at matched tokens."""
    vote_temperature: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature of every setting but the votes; 0 is greedy, and then there is nothing to repeat."""
    repeats: int = Field(default=1, ge=1)
    """Draws a question and setting, at a temperature above 0."""
    token_control: list[int] = Field(default_factory=list)
    """Numbers of tokens that the question asks to think for; each also with budget forcing."""
    step_control: list[int] = Field(default_factory=list)
    """Numbers of steps that the question asks to think for; with budget forcing a step counts as 100 tokens."""
    class_control: list[Literal["short", "long"]] = Field(default_factory=list)
    """Lengths in words that the question asks for; each also with the largest budget forced."""
    rejection: list[int] = Field(default_factory=list)
    """Limits in tokens: sample until thinking is no longer than that."""
    rejection_tries: int = Field(default=16, ge=1)
    auto: list[str] = Field(default_factory=list)
    """Exit rules by which thinking is left when its answer is settled: files that `s1kit calibrate` wrote, or `model`
    for the one beside the model's own files. Each is a setting, with and without the most of `num_waits`."""
    probe_every: int | None = Field(default=None, ge=1)
    """Ask for the answer after so many thinking tokens and every so many more; early exit is worked out from it."""
    comparators: list[Comparator] = Field(default_factory=list)
    """Other models on the same questions and grader."""
    batch_size: int = Field(default=256, ge=1)
    """Questions in a shard at most, and requests that an engine decodes together."""


class Report(Config):
    """What the report says about the run besides its figures."""

    title: str = ""
    caveat: str = ""
    """A sentence printed at the top, e.g. what the run does not prove."""


class Recipe(Config):
    """A whole run: one section a stage."""

    name: str
    """Name of the run and of its folder."""
    recipe: str = ""
    """Name of the recipe: what `name` was in the file before the command line renamed the run."""
    description: str = ""
    seed: int = 0
    out: str = "runs"
    """The folder that holds run folders."""
    collect: Collect = Collect()
    distill: Distill = Distill()
    curate: Curate = Curate()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    stages: list[Literal["collect", "distill", "curate", "train", "evaluate", "report"]] = Field(
        default=["collect", "distill", "curate", "train", "evaluate", "report"]
    )
    """What `s1kit run` does, in this order; a single stage can always be asked for."""
    variants: dict[str, list[str]] = Field(default_factory=dict)
    """Runs that differ from this recipe by `key=value`, each in a folder `<name>-<variant>`; the first is the control
    that the others are compared with."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Values that the recipe's strings refer to as `{name}`, set as `name=value` on the command line. An empty one may
    be a whole string; as a part of one it is an error."""

    @property
    def folder(self) -> Path:
        return Path(self.out) / self.name


def builtin_recipes() -> list[str]:
    return sorted(
        p.name.removesuffix(".toml") for p in resources.files("s1kit.recipes").iterdir() if p.name.endswith(".toml")
    )


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe from a file or a built-in name, with `section.key=value` overrides.

    Raises InputError for a missing file, an unknown key (naming the nearest), a wrong type, a malformed override.
    """
    text, where = _read(reference)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the recipe is not TOML: {error}", where=where, fix="Correct that line.") from error
    data.setdefault("recipe", data.get("name", ""))
    for override in overrides:
        _apply(data, override)
    data = _fill_variables(data, where)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise _explain(error, where) from error


def _read(reference: str) -> tuple[str, str]:
    if reference in builtin_recipes():
        return (resources.files("s1kit.recipes") / f"{reference}.toml").read_text(
            encoding="utf-8"
        ), f"{reference} (built-in)"
    path = Path(reference)
    if not path.is_file():
        raise InputError(
            f"there is no recipe {reference!r}",
            where="RECIPE",
            fix="Give a TOML file, or a built-in name. " + nearest(reference, builtin_recipes()),
        )
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (PermissionError, UnicodeDecodeError) as error:
        raise InputError(
            f"the recipe cannot be read: {error}", where=str(path), fix="Give a UTF-8 text file."
        ) from error


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(
            f"{override!r} is not key=value", where="command line", fix="Write for example train.epochs=3."
        )
    *sections, last = key.strip().split(".")
    if not sections and last in data.get("variables", {}):
        sections = ["variables"]
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise InputError(
                f"{section} in {key!r} is not a section", where="command line", fix="Name a section and a key."
            )
    data[last] = text if "variables" in sections else _parse_value(text)


def _parse_value(text: str) -> Any:
    """TOML where it parses (numbers, booleans, lists, quoted strings), else the text as it stands.

    >>> _parse_value("1e-5"), _parse_value("[1, 2]"), _parse_value("hf:some/model")
    (1e-05, [1, 2], 'hf:some/model')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _fill_variables(data: dict[str, Any], where: str) -> dict[str, Any]:
    variables: dict[str, str] = data.get("variables", {})

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            for name, text in variables.items():
                if f"{{{name}}}" in value:
                    if not text and value != f"{{{name}}}":
                        raise InputError(
                            f"{name} is not set", where=where, fix=f"Add {name}=<value> to the command line."
                        )
                    value = value.replace(f"{{{name}}}", text)
            return value
        if isinstance(value, list):
            return [fill(v) for v in value]
        if isinstance(value, dict):
            return {k: fill(v) for k, v in value.items()}
        return value

    return {key: value if key == "variables" else fill(value) for key, value in data.items()}


def _explain(error: ValidationError, where: str) -> InputError:
    """All complaints of a validation, as one paragraph, each with its repair."""
    complaints = error.errors()
    if any(c["type"] == "extra_forbidden" for c in complaints):
        # Of a misspelled key that was required, both are said; the key that does not exist explains the other.
        complaints = [c for c in complaints if c["type"] != "missing"]
    found = [_complaint(c, where) for c in complaints]
    if len(found) == 1:
        return found[0]
    said = "; ".join(f"({number}) {one.what}. {one.fix.rstrip('.')}" for number, one in enumerate(found, 1))
    return InputError(f"{len(found)} settings are wrong: {said}", where=where, fix="Correct each of them.")


def _complaint(first: Any, where: str) -> InputError:
    if isinstance(told := first.get("ctx", {}).get("error"), InputError):
        return told
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return InputError(
            f"unknown key {place!r}", where=where, fix=nearest(str(first["loc"][-1]), _known_keys(first["loc"][:-1]))
        )
    if first["type"] == "missing":
        return InputError(f"{place} is missing", where=where, fix="Add it.")
    given = json.dumps(first["input"], default=str)
    return InputError(f"{place} is {given:.200}: {first['msg'].lower()}", where=where, fix="Give a value of that kind.")


def _known_keys(location: Sequence[int | str]) -> list[str]:
    model: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        model = model.model_fields[part].annotation
        model = next((a for a in get_args(model) if hasattr(a, "model_fields")), model)
    return list(model.model_fields)
