"""Settings of the stage `distill`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from s1kit.errors import InputError
from s1kit.recipe.config import Config, Workers


class Teaching(Config):
    """One teacher, and how it is asked."""

    teacher: str = "tiny"
    """`tiny`, `recorded:<file>`, `solutions` (a question's published solution is its trace), or a model reference."""
    prompt: str = "{question}"
    """What is asked; `{question}` stands for the question's text."""
    system: str = ""
    """System message sent before the question; empty: none."""
    format: str = ""
    """Thinking format of a local engine; empty: found from the model's files."""
    template: dict[str, Any] = Field(default_factory=dict)
    """Switches passed to a local engine's chat template, e.g. `{ enable_thinking = true }`."""
    max_output_tokens: int = Field(default=32768, ge=1)
    """Thinking and answer together. A local engine takes what its context holds, where that is less."""
    temperature: float | None = Field(default=None, ge=0)
    """None: the provider's own; of a local engine, what the model's generation_config.json says."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Nucleus sampling. None: the provider's own; for a local engine the model's."""
    thinking_budget: int | None = Field(default=None, ge=0)
    """Tokens of thinking at most, where the provider takes such a limit."""
    reasoning_effort: str | None = None
    """Effort level, such as `low` or `high`, where the provider takes one."""
    work_as_thinking: bool = False
    """Take the worked answer of a reply without thinking as thinking, and its final answer as the answer: for models
    that reason in their answer, such as instruct models. A reply that states no final answer stays as it is."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the provider's request body."""
    concurrency: int = Field(default=64, ge=1)
    """Requests in flight at most."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """None: as the provider's headers say, else as fast as it accepts."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """None: as the provider's headers say, else found from refusals."""
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

    @model_validator(mode="after")
    def _within_itself(self) -> Self:
        if self.thinking_budget is not None and self.thinking_budget >= self.max_output_tokens:
            raise InputError(
                f"thinking_budget is {self.thinking_budget} of {self.max_output_tokens} max_output_tokens, which hold "
                "the answer, too",
                where="distill.thinking_budget",
                fix="Raise max_output_tokens, or lower the budget.",
            )
        if own := sorted(_OWN_FIELDS & self.extra.keys()):
            raise InputError(
                f"extra sets {own[0]!r}, which every request sets itself",
                where="distill.extra",
                fix="Leave it out: prompt, system, teacher and stream are settings.",
            )
        if several := next((name for name, num in _numbers_of_replies(self.extra) if num != 1), ""):
            raise InputError(
                f"extra sets {several!r}: of several replies to a request one would be kept, and all be paid",
                where="distill.extra",
                fix="Set distill.num_traces instead.",
            )
        return self


def _numbers_of_replies(extra: dict[str, Any]) -> list[tuple[str, Any]]:
    """Fields that ask for several replies: of most, of Cohere, of Gemini."""
    config = extra.get("generationConfig")
    inner = (
        {"candidateCount": config["candidateCount"]} if isinstance(config, dict) and "candidateCount" in config else {}
    )
    return [(name, num) for name, num in (extra | inner).items() if name in ("n", "num_generations", "candidateCount")]


_OWN_FIELDS = {
    *("messages", "input", "contents", "model", "stream", "stream_options"),
    *("system", "systemInstruction", "system_instruction"),
}
"""Fields of a request's body that `extra` would overwrite: what is asked, of whom, and how the reply comes."""


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
