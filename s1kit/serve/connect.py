"""Finding out what an upstream is before the first request: its kind, model, context, and the tokenizer for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from s1kit.errors import InputError, WorkFailed, nearest
from s1kit.forcing.formats import detect_format, find_format, load_format
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer, find_folder
from s1kit.serve.logs import log
from s1kit.serve.refusals import Refusal
from s1kit.serve.upstream import DIALECTS, Dialect, Upstream
from s1kit.serve.wire import CompletionsServer

if TYPE_CHECKING:
    from s1kit.serve.server import Options

_OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "me": "llama.cpp"}
"""What `/v1/models` of each kind says in `owned_by`; `me` is llama-cpp-python's."""


async def connect(options: Options) -> Upstream:
    """The upstream that the options name, asked what it is. Raises InputError, or WorkFailed when it is not there."""
    url = options.upstream or ""
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is not a URL", where="--upstream", fix="Give one such as http://127.0.0.1:8001")
    server = CompletionsServer(url, _key(options), options.upstream_timeout)
    try:
        card = _pick(await server.get_json("/v1/models"), options.upstream_model, url)
        return _connected(server, card, options)
    except Refusal as refusal:
        await server.close()
        raise WorkFailed(refusal.message, fix="Start the upstream first, or correct --upstream.") from refusal
    except InputError:
        await server.close()
        raise


def _connected(server: CompletionsServer, card: dict[str, Any], options: Options) -> Upstream:
    model = str(card["id"])
    dialect = _dialect(options.upstream_kind, card)
    folder = find_folder(options.tokenizer or str(card.get("root") or model))
    tokenizer = FileTokenizer(folder)
    form = find_format(options.format) if options.format else load_format(folder) or detect_format(tokenizer)
    tokens = TokenFormat(form, tokenizer, tokenizer.more_eos_ids)
    context = options.context or card.get("max_model_len") or (card.get("meta") or {}).get("n_ctx_train")
    if not isinstance(context, int):
        raise InputError(
            f"the upstream does not say how long the context of {model} is",
            where="--context",
            fix="Give the number of tokens that it was started with.",
        )
    name = options.name or model
    log("upstream", url=server.url, kind=dialect.name, model=model, context=context, thinking_format=form.name)
    return Upstream(server, name, tokens, context, dialect, upstream_model=model)


def _key(options: Options) -> str | None:
    if options.upstream_key_env is None:
        return None
    key = os.environ.get(options.upstream_key_env)
    if not key:
        raise InputError(
            f"the environment variable {options.upstream_key_env} is not set",
            where="--upstream-key-env",
            fix="Set it to the key of the upstream.",
        )
    return key


def _pick(listed: Any, wanted: str | None, url: str) -> dict[str, Any]:
    """The model's card among those that the upstream lists."""
    data = listed.get("data") if isinstance(listed, dict) else None
    found = data if isinstance(data, list) else []
    cards: list[dict[str, Any]] = [c for c in found if isinstance(c, dict) and c.get("id")]
    names = [str(c["id"]) for c in cards]
    if not cards:
        raise InputError(f"{url} lists no models", where="--upstream", fix="Is it an OpenAI-style completions server?")
    if wanted is None and len(cards) > 1:
        raise InputError(
            f"{url} serves {len(cards)} models", where="--upstream-model", fix=f"Choose one of: {', '.join(names)}."
        )
    card = next((c for c in cards if wanted in (None, c["id"])), None)
    if card is None:
        raise InputError(f"{url} does not serve {wanted!r}", where="--upstream-model", fix=nearest(wanted or "", names))
    return card


def _dialect(kind: str, card: dict[str, Any]) -> Dialect:
    if kind == "auto":
        # A server that does not say what it is gets nothing but what every completions server knows.
        kind = _OWNERS.get(str(card.get("owned_by", "")).lower(), "plain")
    if kind not in DIALECTS:
        raise InputError(f"unknown kind {kind!r}", where="--upstream-kind", fix=nearest(kind, (*DIALECTS, "auto")))
    return DIALECTS[kind]
