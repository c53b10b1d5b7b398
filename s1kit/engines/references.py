"""Model references and the options of engines: one set of names, in references, recipes and on the command line.

    vllm:Qwen/Qwen3-8B,dtype=bfloat16,tensor_parallel_size=4,gpu_memory_utilization=0.9
    hf:./checkpoint,dtype=bfloat16,max_batch=16,format=qwen3,template.enable_thinking=true
    completions:http://localhost:8000/v1#my-model,tokenizer=./checkpoint,max_batch=64

Options follow the model, each as `,name=value`. Imports no engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1kit.errors import InputError, nearest

_COMMON: dict[str, type] = {"format": str, "context_tokens": int, "max_batch": int}
_HF = {**_COMMON, "device": str, "dtype": str, "cuda_graphs": bool}

OPTIONS: Mapping[str, Mapping[str, type]] = {
    "tiny": _HF,
    "tiny-base": _HF,
    "hf": _HF,
    "vllm": {
        **_COMMON,
        "dtype": str,
        "tensor_parallel_size": int,
        "gpu_memory_utilization": float,
        "enforce_eager": bool,
        "quantization": str,
    },
    "llama.cpp": {**_COMMON, "num_threads": int, "num_parallel": int},
    "completions": {**_COMMON, "tokenizer": str, "kind": str, "timeout": float, "num_parallel": int},
    "scripted": _COMMON,
}
"""What each engine takes. `max_batch`: requests that decode together at most. `vllm` takes any further name that
`vllm.EngineArgs` has. `template.<name>` is a switch of the chat template, everywhere."""

HF_DTYPES = ("float32", "bfloat16", "float16")
"""What `dtype` may be where transformers decodes; vLLM has its own names."""

_OPTION = re.compile(r"[A-Za-z_][\w.]*=")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed model reference: scheme, target, options."""

    scheme: str
    target: str
    """What the scheme needs: a folder, a file, an address and model; empty for the packaged models."""
    options: dict[str, Any]


def read_reference(reference: str) -> Reference:
    """Parse a reference. Raises InputError for an option that the engine does not have, or a value of the wrong type.

    >>> read_reference("hf:./a,b,dtype=float32,max_batch=2")
    Reference(scheme='hf', target='./a,b', options={'dtype': 'float32', 'max_batch': 2})
    >>> read_reference("tiny,template.enable_thinking=false").options
    {'template': {'enable_thinking': False}}
    """
    first, *rest = reference.split(",")
    pieces = [first]
    for piece in rest:
        # A comma may be part of a file's name: only what reads like an option is one.
        if _OPTION.match(piece):
            pieces.append(piece)
        else:
            pieces[-1] += f",{piece}"
    scheme, _, target = pieces[0].partition(":")
    if target.startswith("~"):  # no shell expands it behind a colon
        target = str(Path(target).expanduser())
    options: dict[str, Any] = {}
    for piece in pieces[1:]:
        name, _, text = piece.partition("=")
        group, dot, switch = name.partition(".")
        if dot and group == "template":
            options.setdefault("template", {})[switch] = guess_value(text)
        elif name in options:
            raise InputError(f"{name} is stated twice", where=reference, fix="Leave one of them out.")
        elif scheme in OPTIONS:
            options[name] = _value(scheme, name, text, reference)
    return Reference(scheme, target, options)


def looks_local(target: str) -> bool:
    """Whether a target means a folder or file of this machine, there or not, rather than an id of the Hub.

    >>> looks_local("./missing"), looks_local("Qwen/Qwen3-8B"), looks_local("models/of/mine")
    (True, False, True)
    """
    return Path(target).expanduser().exists() or target.startswith((".", "/", "~")) or target.count("/") > 1


def scheme_of(reference: str) -> str:
    """The scheme of a reference, whatever its options say.

    >>> scheme_of("hf:./a"), scheme_of("tiny-base,max_batch=4")
    ('hf', 'tiny-base')
    """
    return reference.partition(",")[0].partition(":")[0]


def written(reference: str, options: Mapping[str, Any]) -> str:
    """The reference with further options of `load_engine` in it: what decodes, as one text.

    >>> written("hf:./a,format=s1", {"format": "s1", "template": {"thinking": True}})
    'hf:./a,format=s1,template.thinking=true'
    """
    stated = read_reference(reference).options
    switches = {
        f"template.{k}": v for k, v in options.get("template", {}).items() if k not in stated.get("template", {})
    }
    others = {k: v for k, v in options.items() if k != "template" and k not in stated}
    texts = [f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in sorted({**others, **switches}.items())]
    return ",".join([reference, *texts])


def with_dtype(reference: str, dtype: str) -> str:
    """The reference with a type for the weights, unless it states one.

    >>> with_dtype("hf:./a", "bfloat16"), with_dtype("hf:./a,dtype=float32", "bfloat16"), with_dtype("tiny", "")
    ('hf:./a,dtype=bfloat16', 'hf:./a,dtype=float32', 'tiny')
    """
    return reference if not dtype or "dtype" in read_reference(reference).options else f"{reference},dtype={dtype}"


def joined(stated: Mapping[str, Any], given: Mapping[str, Any], reference: str) -> dict[str, Any]:
    """Merge the options of a reference with its caller's; the reference's `max_batch` and switches win.

    Raises InputError where both name another option and the two differ.
    """
    for name in stated.keys() & given.keys() - {"max_batch", "template"}:
        if given[name] is not None and given[name] != stated[name]:
            raise InputError(
                f"the reference states {name} {stated[name]!r}, and {name} {given[name]!r} is asked for",
                where=reference,
                fix="Leave one of them out.",
            )
    template = {**(given.get("template") or {}), **stated.get("template", {})}
    return {**given, **stated} | ({"template": template} if template else {})


def read_switches(given: Sequence[str]) -> dict[str, Any]:
    """Parse `name=value` texts into the switches of a chat template. Raises InputError."""
    switches = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"{text!r} is not key=value", where="--template", fix="Write e.g. enable_thinking=false.")
        switches[name] = guess_value(value)
    return switches


def guess_value(text: str) -> Any:
    """A value written as in TOML or Python: a number, true or false, none, else the text.

    >>> [guess_value(text) for text in ("4", "0.9", "true", "none", "high")]
    [4, 0.9, True, None, 'high']
    """
    known = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in known:
        return known[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def check_dtype(dtype: str, where: str) -> None:
    """Raises InputError for a type of weights that transformers' models are not decoded in; empty: the engine's own."""
    if dtype and dtype not in HF_DTYPES:
        raise InputError(f"dtype is {dtype!r}", where=where, fix=nearest(dtype, HF_DTYPES))


def _value(scheme: str, name: str, text: str, reference: str) -> Any:
    known = OPTIONS[scheme]
    if name not in known:
        if scheme == "vllm":
            return guess_value(text)
        fix = nearest(name, known) if known else "It takes none."
        raise InputError(f"the engine {scheme}: has no option {name!r}", where=reference, fix=fix)
    kind = known[name]
    if name == "dtype" and known is _HF:
        check_dtype(text, reference)
    if kind is str:
        return text
    value = guess_value(text)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is float and is_number and value > 0:
        return float(value)
    if kind is int and is_number and value == int(value) and value > 0:
        return int(value)
    wanted = {bool: "true or false", float: "a number above 0", int: "a whole number above 0"}[kind]
    raise InputError(f"{name} is {text!r}", where=reference, fix=f"Give {wanted}.")
