"""The fields that bodies of several endpoints share: every one that is understood, and no other.

An unknown field, a wrong type or a number out of range is an error that names the field. Fields that cannot change what
is generated (ids, metadata, routing hints), nulls and neutral values are accepted.
What the thinking fields mean together is decided in `dial`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_CHOICES = 64
"""Upper bound of `n`, and of `n` times the number of prompts."""
MOST_TOKENS = 1 << 30
"""Upper bound of every number of tokens; a context is smaller, this only keeps numbers sane."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

TokenCount = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
BudgetCount = Annotated[int, Field(ge=-1, le=MOST_TOKENS)]
PositiveCount = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Total = Annotated[PositiveCount | None, BeforeValidator(lambda given: None if given == -1 else given)]
TokenId = Annotated[int, Field(ge=0, le=1 << 31)]
StopString = Annotated[str, Field(min_length=1, max_length=1000)]
WaitString = Annotated[str, Field(min_length=1, max_length=1000)]


class Wire(BaseModel):
    """A part of a body; an unknown field is an error and `"5"` is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _plainly(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        # Clients send null for what they leave out, also in fields not known here. JSON has one kind of number.
        whole = {k: int(v) for k, v in given.items() if type(v) is float and v.is_integer()}
        return {k: v for k, v in (given | whole).items() if v is not None}


def check_parts(given: Wire, kind: str, needed: Mapping[str, tuple[str, ...]]) -> None:
    """Raises ValueError for a missing field that its kind has: an empty one in its place would hide the mistake."""
    for name in needed.get(kind, ()):
        if name not in given.model_fields_set:
            raise ValueError(f"{name} is missing, which every {kind} has")


class Echo(Wire):
    """What gateways and clients add to what they send back; it never reaches the model."""

    cache_control: dict[str, Any] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None
    """OpenAI's `cache_control`."""
    provider_specific_fields: dict[str, Any] | None = None
    extra_content: dict[str, Any] | None = None


class StreamOptions(Wire):
    include_usage: bool = False
    include_obfuscation: bool = False
    """Padding against who watches the sizes of events; there is none here."""
    continuous_usage_stats: bool = False
    """True: with `include_usage`, every event says the usage so far."""


class ThinkingSwitch(Wire):
    """Anthropic's form. `auto` is what others call `adaptive`."""

    type: Literal["enabled", "disabled", "adaptive", "auto"] | None = None
    """Z.ai's clients leave it out."""
    budget_tokens: BudgetCount | None = None
    """0 beside `adaptive` is how some clients say that they have no number."""
    effort: Effort | None = None
    """The same as `reasoning_effort`."""
    display: Literal["summarized", "omitted", "updates"] | None = None
    """`omitted`: the reply leaves the thinking text out; it is still done and counted."""
    clear_thinking: bool | None = None
    """The same as `chat_template_kwargs.clear_thinking`."""
    block_binding: dict[str, Any] | None = None
    """What becomes of thinking whose signature is not right; none is checked here."""

    @property
    def number(self) -> int | None:
        """The budget that is stated."""
        is_own = self.type in ("adaptive", "auto")
        return None if is_own and self.budget_tokens == 0 else self.budget_tokens


class ReasoningSwitch(Wire):
    """OpenRouter's form."""

    max_tokens: BudgetCount | None = None
    effort: Effort | None = None
    enabled: bool | None = None
    exclude: bool | None = None
    """True: the reply leaves the thinking text out; it is still done and counted."""


class TemplateSwitches(Wire):
    """What chat templates call the budget: Qwen3 and DeepSeek (false is a budget of 0), Seed-OSS and gpt-oss."""

    enable_thinking: bool | None = None
    thinking: bool | None = None
    thinking_budget: BudgetCount | None = None
    reasoning_effort: Effort | None = None
    # These say which earlier thinking the model sees again, and are handed to the template.
    preserve_thinking: bool | None = None
    """True: all of it (Qwen3.6)."""
    clear_thinking: bool | None = None
    """False: all of it (GLM 4.7)."""


class ThinkingFields(Wire):
    """What is said about thinking; several names for one number must agree."""

    budget: Literal["auto"] | None = None
    """`auto`: thinking is left when its answer is settled, within the other fields; needs a server with a rule."""
    thinking_token_budget: BudgetCount | None = None
    """Upper bound on thinking tokens; -1 as much as there is room for, 0 none."""
    max_thinking_tokens: BudgetCount | None = None
    """The same."""
    thinking_budget_tokens: BudgetCount | None = None
    """The same."""
    thinking_budget: BudgetCount | None = None
    """The same."""
    enable_thinking: bool | None = None
    """False: a budget of 0."""
    thinking: ThinkingSwitch | None = None
    """The same as `budget_tokens`; type `disabled` is 0."""
    reasoning: ReasoningSwitch | None = None
    """The same as `max_tokens` or `effort`."""
    reasoning_effort: Effort | None = None
    """A name for a budget; `/v1/models` shows the map."""
    chat_template_kwargs: TemplateSwitches | None = None
    clear_thinking: bool | None = None
    """The same as `chat_template_kwargs.clear_thinking`."""
    min_thinking_tokens: TokenCount | None = None
    """Lower bound: stops before it become waits."""
    num_waits: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """How many stops become waits."""
    wait: WaitString | Annotated[list[WaitString], Field(min_length=1, max_length=64)] | None = None
    """What a stop becomes: a string, or several used in turn; the model's own when left out."""
    closing_phrase: Annotated[str, Field(max_length=1000)] | None = None
    """What follows the end of thinking when the budget ended it; the model's own when left out."""
    answer_tokens: PositiveCount | None = None
    """Room kept for the answer before thinking starts."""
    include_reasoning: bool | None = None
    """False: the reply leaves the thinking text out; it is still done and counted."""
    reasoning_format: Literal["hidden"] | None = None
    """Groq's way to say the same."""

    @property
    def template_switches(self) -> dict[str, tuple[str, bool]]:
        """What is to be handed to the chat template, by its name there: the field that says so, and the value."""
        stated: dict[str, tuple[str, bool | None]] = {"clear_thinking": ("clear_thinking", self.clear_thinking)}
        if self.thinking is not None and self.thinking.clear_thinking is not None:
            stated["clear_thinking"] = ("thinking.clear_thinking", self.thinking.clear_thinking)
        for name in ("preserve_thinking", "clear_thinking"):
            if (value := getattr(self.chat_template_kwargs, name, None)) is not None:
                stated[name] = (f"chat_template_kwargs.{name}", value)
        return {name: (field, value) for name, (field, value) in stated.items() if value is not None}


NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # llama.cpp
    "typical_p": (1,),
    "repeat_penalty": (1,),
    "dry_multiplier": (0,),
    "mirostat": (0,),
    "xtc_probability": (0,),
    "dynatemp_range": (0,),
    "top_n_sigma": (-1,),
    "n_keep": (0,),
    "id_slot": (-1,),
    "timings_per_token": (False,),
    "return_progress": (False,),
    "reasoning_format": ("auto", "deepseek", "parsed"),
    # Groq
    "reasoning_effort": ("default",),
    # MiniMax
    "reasoning_split": (True,),
    # vLLM
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "logits_processors": ([],),
    "vllm_xargs": ({},),
    "detokenize": (True,),
    "return_tokens_as_token_ids": (False,),
    # SGLang
    "separate_reasoning": (True,),
    "stream_reasoning": (True,),
    "no_stop_trim": (False,),
}
"""Fields of one engine or another, at the values that mean what happens here anyway; most are unknown at any other."""


def _is_among(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Equality in which false is no number."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)


class OpenaiFields(Wire):
    """The fields that all of OpenAI's endpoints share."""

    model: str | None = None
    """As listed at `/v1/models`; the one that is served when left out."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stream: bool | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None
    """Appears in the log as a short hash, to tell users apart."""
    # These cannot change what is generated.
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    store: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None
    client_metadata: dict[str, Any] | None = None
    # Accepted only at the value that changes nothing: these would act on thinking and answer as if they were one text.
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None


class SamplingFields(OpenaiFields):
    """The fields of chats and completions."""

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {k: v for k, v in given.items() if k not in NEUTRAL or not _is_among(v, NEUTRAL[k])}

    max_tokens: Total | None = None
    """Upper bound on thinking, delimiters and answer together; -1: as much as there is room for."""
    top_k: Annotated[int, Field(ge=-1, le=MOST_TOKENS)] | None = None
    """0 and -1: no limit."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=64)] | None = None
    """Strings that end the answer; they are not looked for in the thinking."""
    stream_options: StreamOptions | None = None
    # These cannot change what is generated.
    cache_prompt: bool | None = None
    cache_salt: str | None = None
    request_id: str | None = None
    priority: int | None = None
    # Accepted only at the value that changes nothing, for the same reason.
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    repetition_penalty: Annotated[float, Field(ge=1, le=1)] | None = None
    length_penalty: Annotated[float, Field(ge=1, le=1)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=0)] | None = None
    ignore_eos: Literal[False] | None = None
    use_beam_search: Literal[False] | None = None
    skip_special_tokens: Literal[True] | None = None
    add_special_tokens: Literal[False] | None = None
    return_token_ids: Literal[False] | None = None
    include_stop_str_in_output: Literal[False] | None = None
    echo: Literal[False] | None = None
    spaces_between_special_tokens: Literal[True] | None = None
