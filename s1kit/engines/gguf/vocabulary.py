"""The tokenizer of a GGUF file as a checkpoint's tokenizer files, and the other way round."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from s1kit.engines.gguf.reading import GgufFile
from s1kit.engines.gguf.splits import IGNORE_MERGES, NORMALIZED, SPLITS, name_of, pre_tokenizer
from s1kit.errors import InputError
from s1kit.forcing.tokenizer import FileTokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens (`tokenizer.ggml.token_type`)."""
_ENDS = {
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<|end|>",
    "<EOT>",
}
"""Control tokens at which llama.cpp ends a generation whatever the metadata says, which name one end of often two."""
_SPACE = "\u2581"
"""What stands for a space in the vocabularies of SentencePiece."""
_FIX = "Use the engine llama.cpp:, which has this tokenizer built in, or the model's own checkpoint folder."


def write_tokenizer_files(gguf: GgufFile, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json. Raises InputError for another kind."""
    metadata, where = gguf.metadata, str(gguf.path)
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens") or []
    if not tokens:
        raise InputError("the file holds no vocabulary", where=where, fix="Take a file that was converted whole.")
    kinds: list[int] = metadata.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    model = metadata.get("tokenizer.ggml.model")
    if model == "gpt2":
        raw = _byte_level(gguf, tokens, kinds)
    elif model == "llama":
        raw = _sentence_piece(metadata, tokens, kinds)
    else:
        raise InputError(f"the tokenizer is of kind {model!r}, which is not read here", where=where, fix=_FIX)
    raw["added_tokens"] = [
        {
            "id": number,
            "content": tokens[number],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == CONTROL,
        }
        for number, kind in enumerate(kinds)
        if kind in (CONTROL, USER_DEFINED)
    ]
    names = {name: _token(metadata, key, tokens) for name, key in _SPECIAL.items()}
    if metadata.get("tokenizer.ggml.add_bos_token", model == "llama") and (bos := names["bos_token"]):
        raw["post_processor"] = _first(bos, tokens.index(bos))
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    settings |= {name: text for name, text in names.items() if text is not None}
    if template := metadata.get("tokenizer.chat_template"):
        settings["chat_template"] = template
    if context := gguf.value("context_length"):
        settings["model_max_length"] = context
    ids = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    ids += [i for i, kind in enumerate(kinds) if kind == CONTROL and tokens[i] in _ENDS]
    ends = list(dict.fromkeys(i for i in ids if isinstance(i, int)))
    generation = {"eos_token_id": ends, "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id")}
    generation |= {"pad_token_id": metadata.get("tokenizer.ggml.padding_token_id")}
    _write(folder / "tokenizer.json", raw)
    _write(folder / "tokenizer_config.json", settings)
    _write(folder / "generation_config.json", {k: v for k, v in generation.items() if v not in (None, [])})


_SPECIAL = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
}


def _byte_level(gguf: GgufFile, tokens: list[str], kinds: list[int]) -> dict[str, Any]:
    name = str(gguf.metadata.get("tokenizer.ggml.pre", ""))
    if name not in SPLITS:
        what = (
            f"the tokenizer splits text by {name!r}, which is not known"
            if name
            else "the file does not say how text is split"
        )
        raise InputError(f"{what} (tokenizer.ggml.pre)", where=str(gguf.path), fix=_FIX)
    known = {text: number for number, text in enumerate(tokens) if kinds[number] != UNUSED}
    pairs = [merge.split(" ", 1) for merge in gguf.metadata.get("tokenizer.ggml.merges", [])]
    return {
        "version": "1.0",
        "normalizer": {"type": "NFC"} if name in NORMALIZED else None,
        "pre_tokenizer": pre_tokenizer(name),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": known,
            "merges": [p for p in pairs if len(p) == 2 and "".join(p) in known and p[0] in known and p[1] in known],
            "ignore_merges": name in IGNORE_MERGES,
        },
    }


def _sentence_piece(metadata: dict[str, Any], tokens: list[str], kinds: list[int]) -> dict[str, Any]:
    """SentencePiece's BPE: of all pairs that are tokens together, the one of the highest score is merged first."""
    scores: list[float] = metadata.get("tokenizer.ggml.scores") or [0.0] * len(tokens)
    known = {text: number for number, text in enumerate(tokens)}
    merged = [(i, text) for i, text in enumerate(tokens) if kinds[i] in (NORMAL, UNUSED) and len(text) > 1]
    merges = []
    for _, text in sorted(merged, key=lambda entry: (-scores[entry[0]], entry[0])):
        halves = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        found = [(a, b) for a, b in halves if a in known and b in known]
        merges += sorted(found, key=lambda pair: (known[pair[0]], known[pair[1]]))
    has_prefix = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    prepend = [{"type": "Prepend", "prepend": _SPACE}] if has_prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if has_prefix else []
    unknown = metadata.get("tokenizer.ggml.unknown_token_id")
    return {
        "version": "1.0",
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*prepend, {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "model": {
            "type": "BPE",
            "vocab": known,
            "merges": merges,
            "unk_token": tokens[unknown] if isinstance(unknown, int) else None,
            "fuse_unk": True,
            "byte_fallback": BYTE in kinds,
        },
    }


def add_vocabulary(writer: Any, vocab_size: int, folder: Path) -> None:
    """Write a checkpoint's tokenizer into a GGUF file, padded to the rows of its embedding.

    Raises InputError for a tokenizer that GGUF has no form for.
    """
    raw = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = raw.get("model", {})
    if model.get("type") != "BPE":
        fix = "Use the engine hf: for this model."
        raise InputError(
            f"the tokenizer is of kind {model.get('type')!r}, which is not written",
            where=str(folder / "tokenizer.json"),
            fix=fix,
        )
    names = {i: text for text, i in model["vocab"].items()}
    added = {t["id"]: t for t in raw["added_tokens"]}
    is_byte_level = not model.get("byte_fallback")
    texts, kinds = [], []
    for i in range(vocab_size):
        text = added[i]["content"] if i in added else names.get(i, f"[PAD{i}]")
        texts.append(text)
        if i in added:
            kinds.append(CONTROL if added[i]["special"] else USER_DEFINED)
        elif not is_byte_level and len(text) == 6 and text.startswith("<0x"):
            kinds.append(BYTE)
        else:
            kinds.append(NORMAL if i in names else UNUSED)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    if is_byte_level:
        _add_byte_level(writer, raw, folder, merges)
    else:
        _add_sentence_piece(writer, raw, texts, merges)
    writer.add_token_list(texts)
    writer.add_token_types(kinds)


def _add_byte_level(writer: Any, raw: dict[str, Any], folder: Path, merges: list[str]) -> None:
    name = name_of(raw.get("pre_tokenizer"))
    if name is None:
        print(
            f"{folder}: llama.cpp has no name for the way this tokenizer splits text; the file carries tokenizer.json, "
            "which s1kit uses, but other programs on llama.cpp will tokenise text differently",
            file=sys.stderr,
        )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name or "gpt-2")
    writer.add_token_merges(merges or ["Ġ Ġ"])


def _add_sentence_piece(writer: Any, raw: dict[str, Any], texts: list[str], merges: list[str]) -> None:
    """SentencePiece scores tokens where tokenizer.json ranks merges: an earlier merge is a higher score."""
    rank: dict[str, int] = {}
    for number, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", ""), number)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_scores([-float(rank[t]) if t in rank else 0.0 for t in texts])
    writer.add_add_space_prefix(_has_prefix(raw))


def _has_prefix(raw: dict[str, Any]) -> bool:
    normalizer = raw.get("normalizer") or {}
    parts = normalizer.get("normalizers", [normalizer])
    if any(part.get("type") == "Prepend" for part in parts):
        return True
    return str((raw.get("pre_tokenizer") or {}).get("prepend_scheme", "never")) != "never"


def add_special_tokens(writer: Any, tokenizer: FileTokenizer) -> None:
    """What begins and ends a sequence, and the chat template. All end ids are written: llama.cpp has room for three."""
    own = tokenizer.eos_token_id
    ends = list(dict.fromkeys([*tokenizer.more_eos_ids, *([own] if own is not None else [])]))
    for add, number in zip(
        (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id), ends, strict=False
    ):
        add(number)
    known = tokenizer.get_vocab()
    if tokenizer.bos_token in known:
        writer.add_bos_token_id(known[tokenizer.bos_token])
    starts = tokenizer.encode("a", add_special_tokens=True)[:1]
    writer.add_add_bos_token(tokenizer.bos_token in known and starts == [known[tokenizer.bos_token]])
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _token(metadata: dict[str, Any], key: str, tokens: list[str]) -> str | None:
    number = metadata.get(f"tokenizer.ggml.{key}_token_id")
    return tokens[number] if isinstance(number, int) and number < len(tokens) else None


def _first(bos: str, number: int) -> dict[str, Any]:
    text = {"Sequence": {"id": "A", "type_id": 0}}
    start = {"SpecialToken": {"id": bos, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [start, text],
        "pair": [start, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [number], "tokens": [bos]}},
    }


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
