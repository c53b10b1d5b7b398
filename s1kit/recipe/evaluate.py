"""Settings of the stage `evaluate`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from s1kit.recipe.config import Config, Workers


class Comparator(Config):
    """Another model beside the one under evaluation: asked now, or read from a file of outputs or of numbers."""

    model: str = ""
    """A remote model, `chat:<provider>/<model>`, asked the same questions."""
    effort: list[str] = Field(default_factory=lambda: [""])
    """Levels of `reasoning_effort` to ask with; empty: the provider's own."""
    max_output_tokens: int = Field(default=32768, ge=1)
    """Thinking and answer of a remote model together."""
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
    dtype: str = ""
    """Type of the weights while decoding, e.g. `bfloat16`; empty: the engine's own, which `hf:` on a processor has at
    float32. A reference that states its own dtype keeps it."""
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
    wait: str | None = Field(default=None, min_length=1)
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
    """Sampling temperature of the votes' draws."""
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
    """Draws at most until one is short enough."""
    auto: list[str] = Field(default_factory=list)
    """Exit rules by which thinking is left when its answer is settled: files that `s1kit calibrate` wrote, or `model`
    for the one beside the model's own files. Each is a setting, with and without the most of `num_waits`."""
    probe_every: int | None = Field(default=None, ge=1)
    """Ask for the answer after so many thinking tokens and every so many more; early exit is worked out from it."""
    comparators: list[Comparator] = Field(default_factory=list)
    """Other models on the same questions and grader."""
    batch_size: int = Field(default=256, ge=1)
    """Questions in a shard at most, and requests that an engine decodes together."""
