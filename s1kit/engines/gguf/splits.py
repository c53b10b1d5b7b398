"""How text is split before BPE merges, under the names that GGUF files give it (`tokenizer.ggml.pre`).

Names are those of llama.cpp's loader (src/llama-vocab.cpp); patterns are those of the families' own tokenizer.json.
"""

from __future__ import annotations

from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+@|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*@"
_CASED_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"{_CASED.replace('@', '')}|\p{{N}}|{_CASED_TAIL}"
_GPT4O = rf"{_CASED.replace('@', _CONTRACTIONS + '?')}|\p{{N}}{{1,3}}|{_CASED_TAIL}"
_DEEPSEEK_V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_GPT2: tuple[str, ...] = ("words",)
_DIGITS: tuple[str, ...] = ("digits", "words")

SPLITS: dict[str, tuple[str, ...]] = {
    "gpt-2": _GPT2,
    "mpt": _GPT2,
    "olmo": _GPT2,
    "jais": _GPT2,
    "phi-2": _GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "command-r": _DIGITS,
    "codeshell": _DIGITS,
    "exaone": _DIGITS,
    "minerva-7b": _DIGITS,
    "qwen2": (_QWEN2,),
    "deepseek-r1-qwen": (_QWEN2,),
    "stablelm2": (_QWEN2,),
    "hunyuan": (_QWEN2,),
    "megrez": (_QWEN2,),
    "qwen35": (_QWEN35,),
    "llama-bpe": (_LLAMA3,),
    "llama3": (_LLAMA3,),
    "llama-v3": (_LLAMA3,),
    "falcon3": (_LLAMA3,),
    "lfm2": (_LLAMA3,),
    "dbrx": (_LLAMA3,),
    "smaug-bpe": (_LLAMA3,),
    "chatglm-bpe": (_LLAMA3,),
    "glm4": (_LLAMA3,),
    "tekken": (_TEKKEN,),
    "pixtral": (_LLAMA3,),
    "gpt-4o": (_GPT4O,),
    "llama4": (_GPT4O,),
    "minimax-m2": (_GPT4O,),
    "deepseek-v3": (r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK_V3),
}
"""Steps in turn: `digits` (each alone), `words` (GPT-2's), or a pattern whose matches stand alone."""

IGNORE_MERGES = frozenset({"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "tekken", "lfm2"})
"""Where a word that is one entry of the vocabulary is taken whole."""
NORMALIZED = frozenset({"qwen2", "qwen35"})
"""Where text is brought to Unicode's form NFC first, which llama.cpp itself leaves out."""


def pre_tokenizer(name: str) -> dict[str, Any]:
    """The `pre_tokenizer` of a tokenizer.json. Raises KeyError for a name that is not in the table."""
    steps: list[dict[str, Any]] = []
    for step in SPLITS[name]:
        if step == "digits":
            steps.append({"type": "Digits", "individual_digits": True})
        elif step != "words":
            steps.append({"type": "Split", "pattern": {"Regex": step}, "behavior": "Isolated", "invert": False})
    by_words = SPLITS[name][-1] == "words"
    steps.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": by_words})
    return {"type": "Sequence", "pretokenizers": steps}


def name_of(given: dict[str, Any] | None) -> str | None:
    """The name of a tokenizer.json's `pre_tokenizer`; None where llama.cpp has none for it."""
    steps = _steps(given)
    return next((name for name, known in SPLITS.items() if known == steps), None)


def _steps(given: dict[str, Any] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    found: list[str] = []
    for part in given.get("pretokenizers", [given]):
        if part["type"] == "ByteLevel" and not part.get("add_prefix_space"):
            found += ["words"] if part.get("use_regex", True) else []
        elif part["type"] == "Digits" and part.get("individual_digits"):
            found.append("digits")
        elif part["type"] == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
            found.append(part["pattern"].get("Regex", ""))
        else:
            return None
    return tuple(found)
