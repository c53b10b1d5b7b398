"""The final folder: an ordinary Hugging Face one, with its thinking format and a model card.

It says to other programs where generation ends and how a chat is rendered.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from s1kit.errors import InputError
from s1kit.forcing.formats import ThinkingFormat
from s1kit.progress import say
from s1kit.recipe import Train
from s1kit.records import Sample
from s1kit.train import adapters
from s1kit.train.disk import writing
from s1kit.train.loading import load_weights
from s1kit.train.loop import Fitted
from s1kit.train.meter import read_log
from s1kit.train.prepare import plain_name
from s1kit.train.processes import World
from s1kit.train.reference import base_folder
from s1kit.train.rounding import MOST_LOST, lost_to_rounding

GENERATION_FILE = "generation_config.json"
_PROBE = [{"role": "user", "content": "1+1?"}]


def write_checkpoint(
    folder: Path,
    fitted: Fitted,
    model_config: Any,
    tokenizer: Any,
    fmt: ThinkingFormat,
    train: Train,
    seed: int,
    world: World,
) -> dict[str, Any]:
    """Write weights, config, generation settings, tokenizer, chat template and thinking format, all or nothing.

    The weights are in the training dtype, or in float32 where that would round the training away. Returns what there
    is to say of it: `saved_dtype` and, where it could be known, `lost_to_rounding`; empty on all but the main process.
    """
    weights = whole_weights(fitted, model_config, train, seed, world)
    if not world.is_main:
        return {}
    from transformers import AutoModelForCausalLM

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    name, lost = _saved_dtype(weights, train)
    dtype = getattr(torch, name)
    config, tokenizer = deepcopy(model_config), deepcopy(tokenizer)
    generation = declare_ends(config, tokenizer, fmt, train.base)
    declare_template(tokenizer, fmt)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    # The model knows which weights are tied and what its architecture calls them on disk; it needs none of its own.
    with writing("the final folder", folder.parent, part):
        model.save_pretrained(part, state_dict={n: w.to(dtype) for n, w in weights.items()}, max_shard_size="5GB")
        (part / GENERATION_FILE).write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
        tokenizer.save_pretrained(part)
        fmt.save(part)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    return {"saved_dtype": name} | ({} if lost is None else {"lost_to_rounding": round(lost, 4)})


def _saved_dtype(weights: dict[str, torch.Tensor], train: Train) -> tuple[str, float | None]:
    """The data type to save in, and the share of the change that the training dtype would lose."""
    if train.dtype == "float32":
        return train.dtype, None
    lost = lost_to_rounding(weights, train.base, getattr(torch, train.dtype))
    if lost is None or lost <= MOST_LOST:
        return train.dtype, lost
    if train.layout.master_dtype != "float32":
        say(
            f"train: rounding to {train.dtype} hides {min(lost, 1):.0%} of the change, and master_dtype is "
            f"{train.layout.master_dtype}: train longer, or with a higher learning_rate or master_dtype=float32"
        )
        return train.dtype, lost
    say(
        f"train: {train.dtype} would round away {min(lost, 1):.0%} of what was learned in so few steps; "
        "the checkpoint is saved in float32"
    )
    return "float32", lost


def whole_weights(fitted: Fitted, model_config: Any, train: Train, seed: int, world: World) -> dict[str, torch.Tensor]:
    """All weights in main memory, adapters merged; empty on all but the main process."""
    trained: dict[str, torch.Tensor] = {}
    for name, parameter in fitted.objective.model.named_parameters():
        value: Any = parameter.detach()
        if hasattr(value, "full_tensor"):
            value = value.full_tensor()
        if world.is_main and (train.lora is None or "lora_" in name):
            trained[plain_name(name)] = value.cpu()
    if not world.is_main or train.lora is None:
        return trained
    base = load_weights(train.base, model_config, torch.float32, seed)
    return adapters.merge(trained, dict(base.named_parameters()), train.lora)


def model_card(
    samples: Sequence[Sample], fmt: ThinkingFormat, train: Train, seed: int, figures: dict[str, Any], log_path: Path
) -> str:
    """The card: data, teacher and its terms, settings, the loss, the cost."""
    log = read_log(log_path)
    teachers = Counter((s.trace.teacher, s.trace.terms) for s in samples)
    sources = Counter(s.trace.question.source or "unknown" for s in samples)
    licences = Counter(s.trace.question.licence or "unknown" for s in samples)
    settings = train.model_dump(mode="json", exclude={"layout", "acknowledge_terms"}, exclude_none=True)
    # A card is published: folders of this machine are named by their last part.
    base = Path(train.base).name if Path(train.base.removeprefix("hf:")).exists() else train.base
    lines = [
        "---",
        *([f"base_model: {hub_id}"] if (hub_id := _hub_id(train.base)) else []),
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [s1kit, reasoning, test-time-scaling]",
        "---",
        "",
        "# A model that thinks before it answers",
        "",
        f"Fine-tuned from `{base}` on {len(samples)} samples with [s1kit](https://github.com/s1kit/s1kit), "
        "after s1: Simple test-time scaling (arXiv 2501.19393).",
        f"It thinks between `{fmt.open.strip()}` and `{fmt.end.strip()}` (thinking format `{fmt.name}`, in "
        "`thinking_format.json`); how long is up to whoever decodes: `s1kit ask --model hf:<folder> --max-thinking N`.",
        "",
        "## Data",
        "",
        "| teacher | may its output train a model? | samples |",
        "|---|---|---|",
        *[f"| {teacher} | {terms} | {num} |" for (teacher, terms), num in teachers.most_common()],
        "",
        *([f"Used nevertheless because: {train.acknowledge_terms}", ""] if train.acknowledge_terms else []),
        "| source of the questions | samples |",
        "|---|---|",
        *[f"| {source} | {num} |" for source, num in sources.most_common(20)],
        "",
        "Licences of the questions: " + ", ".join(f"{name} ({num})" for name, num in licences.most_common()) + ".",
        "",
        "## Training",
        "",
        f"{len(log)} steps, {figures['tokens']:,} tokens, {figures['training_seconds']:,.0f} s on "
        f"{figures['processes']} process(es), ${figures['dollars']:.2f}. Loss on the trace and the answer only.",
        "",
        "| setting | value |",
        "|---|---|",
        *[f"| {name} | {value} |" for name, value in (settings | {"base": base, "seed": seed}).items()],
        f"| saved in | {figures['saved_dtype']} |",
        "",
        "| step | loss | learning rate |",
        "|---|---|---|",
        *[f"| {row['step']} | {row['loss']:.4f} | {row['learning_rate']:.3g} |" for row in _spread(log, 12)],
        "",
    ]
    return "\n".join(lines)


def _spread(log: list[dict[str, Any]], num: int) -> list[dict[str, Any]]:
    """At most `num` lines, the first and the last among them."""
    if len(log) <= num:
        return log
    return [log[round(i * (len(log) - 1) / (num - 1))] for i in range(num)]


def _hub_id(base: str) -> str:
    """The Hub id in a reference such as `hf:owner/name`, or nothing: the Hub refuses a card whose `base_model` is none.

    >>> _hub_id("hf:Qwen/Qwen2.5-7B-Instruct"), _hub_id("hf:/models/mine"), _hub_id("tiny-base")
    ('Qwen/Qwen2.5-7B-Instruct', '', '')
    """
    name = base.removeprefix("hf:")
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).exists() else ""


def declare_ends(config: Any, tokenizer: Any, fmt: ThinkingFormat, base: str) -> dict[str, Any]:
    """Put the format's answer end first among the ends of config and tokenizer, and return the generation settings.

    The base's own ends stay valid after it, and its other generation settings (sampling, penalties) are kept as they
    are: a base that ends at `<|endoftext|>` and was trained to end at `<|im_end|>` would otherwise never stop in
    programs that read these files.
    """
    settings = _base_generation(base)
    ends = [fmt.token_id(tokenizer, fmt.answer_end)] if fmt.answer_end else []
    for known in (settings.get("eos_token_id"), config.eos_token_id, tokenizer.eos_token_id):
        ends += known if isinstance(known, list) else [known] if known is not None else []
    ends = list(dict.fromkeys(ends))
    if fmt.answer_end:
        tokenizer.eos_token = fmt.answer_end
    config.eos_token_id = settings["eos_token_id"] = ends if len(ends) > 1 else ends[0] if ends else None
    for name in ("bos_token_id", "pad_token_id"):
        if settings.get(name) is None and (number := getattr(config, name, None)) is not None:
            settings[name] = number
    if settings.get("pad_token_id") is None and ends:
        settings["pad_token_id"] = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    return {name: value for name, value in settings.items() if value is not None}


def declare_template(tokenizer: Any, fmt: ThinkingFormat) -> None:
    """Make the tokenizer's chat template end its prompt as in training: with the format's opening, its switches set.

    The opening is given in training and not learned, so a program that only calls the template must be given it, too.
    `enable_thinking=false` leaves it out. Raises InputError where the template cannot be completed.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str):
        return
    defaults = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}"
        for name, value in fmt.template.items()
    )
    asked = {k: v for k, v in fmt.template.items() if k != "enable_thinking"}
    wanted = fmt.prompt_text(tokenizer, _PROBE[0]["content"]) + fmt.open
    opening = (
        "{%- if add_generation_prompt and (enable_thinking is not defined or enable_thinking) %}"
        f"{{{{- {_literal(fmt.open)} }}}}{{%- endif %}}"
    )
    candidates = (defaults + template, defaults + template + opening, defaults + template.rstrip("\n") + opening)
    kept = (*candidates, defaults + template + opening.replace("{%- if", "{% if", 1))
    for candidate in kept:
        if _render(tokenizer, candidate, asked) == wanted:
            tokenizer.chat_template = candidate
            return
    raise InputError(
        f"the chat template cannot be made to end its prompt with {fmt.open!r}",
        where=f"thinking format {fmt.name!r}",
        fix="Write the opening into the chat template of train.base by hand.",
    )


def _render(tokenizer: Any, template: str, switches: dict[str, Any]) -> str:
    options = {"tokenize": False, "add_generation_prompt": True, "chat_template": template}
    return str(tokenizer.apply_chat_template(_PROBE, **options, **switches))


def _literal(value: Any) -> str:
    """A JSON value as jinja writes it."""
    return json.dumps(value, ensure_ascii=False)


def _base_generation(base: str) -> dict[str, Any]:
    """The base's generation settings; empty where it has none."""
    from transformers.utils import cached_file

    kind, folder = base_folder(base)
    if kind == "random" and not Path(folder).is_dir():
        return {}
    found = cached_file(folder, GENERATION_FILE, _raise_exceptions_for_missing_entries=False)
    return dict(json.loads(Path(found).read_text(encoding="utf-8"))) if found else {}
