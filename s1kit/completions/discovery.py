"""Asks a server what it is: its model, its kind, how long its context is, and whether our tokenizer is its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from s1kit.completions.capabilities import (
    DIALECTS,
    OLDER,
    OWNERS,
    Capabilities,
    Dialect,
    check_visible,
    sampling_fields,
)
from s1kit.completions.client import CompletionsServer
from s1kit.completions.failure import ServerFailed
from s1kit.errors import InputError, nearest
from s1kit.forcing.segment_driver import Complete
from s1kit.forcing.thinking_format import encode
from s1kit.forcing.token_format import TokenFormat


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server says about the model that it serves, in `/v1/models`."""

    model: str
    root: str | None = None
    """The folder or Hub id behind the name, where it says so (vLLM)."""
    owner: str = ""
    context_tokens: int | None = None
    is_listed: bool = False
    """Whether the server listed it; if not, there is nothing to compare with later."""

    def difference(self, other: Identity) -> str:
        """What is not the same in another, in words; empty where nothing is."""
        for what, ours, theirs in (
            ("the model", self.model, other.model),
            ("the folder behind the model", self.root, other.root),
            ("the kind of server", self.owner, other.owner),
            ("the context length", self.context_tokens, other.context_tokens),
        ):
            if ours != theirs:
                return f"{what} was {ours} and is now {theirs}"
        return ""


async def list_models(server: CompletionsServer) -> list[Identity]:
    """The models that `/v1/models` lists. Raises ServerFailed."""
    listed = await server.get_json("/v1/models")
    data = listed.get("data") if isinstance(listed, dict) else None
    cards = data if isinstance(data, list) else []
    return [_identity(c) for c in cards if isinstance(c, dict) and isinstance(c.get("id"), str) and c["id"]]


def _identity(card: dict[str, Any]) -> Identity:
    meta = card.get("meta") if isinstance(card.get("meta"), dict) else {}
    assert meta is not None
    context = card.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train")
    root = card.get("root")
    return Identity(
        card["id"],
        root if isinstance(root, str) else None,
        str(card.get("owned_by") or ""),
        context if type(context) is int and context > 0 else None,
        is_listed=True,
    )


async def identify(server: CompletionsServer, model: str) -> Identity:
    """What `/v1/models` says about a model, or only its name: not every server lists its models, or all of them.

    transformers serve answers `/v1/models` with status 500 where it serves a folder. Raises ServerFailed when the
    server does not answer or wants another key.
    """
    try:
        listed = await list_models(server)
    except ServerFailed as failure:
        if failure.kind not in ("unknown_model", "failed", "nonsense", "refused"):
            raise
        listed = []
    return next((i for i in listed if i.model == model), Identity(model))


async def discover(
    server: CompletionsServer, identity: Identity, tokens: TokenFormat, kind: str | None = None, where: str = ""
) -> Capabilities:
    """Find out what a server can do, by requests for single tokens.

    `kind`: a name of `DIALECTS`, or None to find out: by what the server calls itself, else by trial (token ids first).
    Raises InputError when the server accepts none or reads text as other tokens than ours, and ServerFailed when it
    does not answer.
    """
    refusal: ServerFailed | None = None
    for dialect in _candidates(kind, identity, where):
        try:
            reply = await server.complete(_probe(dialect, identity.model, tokens))
        except ServerFailed as failure:
            if failure.kind not in ("refused", "failed"):
                raise
            refusal = failure
            continue
        choices = reply.get("choices") if isinstance(reply, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            said = str(reply)[:200]
            raise ServerFailed("nonsense", f"the server {server.url} sent a reply that is no completion", said=said)
        if dialect.returns_ids and not isinstance(choices[0].get("token_ids"), list):
            refusal = ServerFailed("refused", f"the server {server.url} returns no token_ids")
            continue
        if dialect.returns_ids:
            _check_reading(choices[0], tokens, where)
        check_visible(tokens, dialect, where)
        if dialect.takes_ids:
            return Capabilities(dialect)
        usage = reply.get("usage")
        num_tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return Capabilities(dialect, _adds_bos(num_tokens, tokens, where))
    fix = "Check the model's name, the kind of server, and that it has /v1/completions."
    raise InputError(f"the server refuses a completion: {refusal}", where=where, fix=fix)


def choose(listed: Sequence[Identity], wanted: str | None, refuse: Callable[[str, str], InputError]) -> Identity:
    """The wanted model, or the only one. `refuse(what, fix)` makes the error to raise."""
    names = [i.model for i in listed]
    if not listed:
        raise refuse("lists no models", "Is it an OpenAI-style completions server?")
    if wanted is None and len(listed) > 1:
        raise refuse(f"serves {len(listed)} models", f"Choose one of: {', '.join(names)}.")
    found = next((i for i in listed if wanted in (None, i.model)), None)
    if found is None:
        raise refuse(f"does not serve {wanted!r}", nearest(wanted or "", names))
    return found


def _candidates(kind: str | None, identity: Identity, where: str) -> list[Dialect]:
    if kind is not None and kind not in DIALECTS:
        raise InputError(f"unknown kind {kind!r}", where=where, fix=nearest(kind, (*DIALECTS, "auto")))
    named = kind or OWNERS.get(identity.owner.lower())
    names = (named,) if named else ("vllm", "open", "transformers", "plain")
    return [d for name in names for d in (DIALECTS[name], OLDER.get(name)) if d is not None]


def _probe(dialect: Dialect, model: str, tokens: TokenFormat) -> dict[str, Any]:
    ids = encode(tokens.tokenizer, tokens.probe)
    ask = Complete(tuple(ids), 1, tokens.eos_ids, (), 0)
    settings: dict[str, float] = {"temperature": 0.0, "top_p": 1.0}
    if dialect.vocabulary != "openai":
        settings["top_k"] = 0
    if dialect.vocabulary == "open":
        settings |= {"min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0}
    body = {"model": model, "max_tokens": 1} | sampling_fields(dialect, settings, ask)
    if dialect.returns_ids:
        body["return_token_ids"] = True
    return body | {"prompt": ids if dialect.takes_ids else tokens.probe}


def _check_reading(choice: dict[str, Any], tokens: TokenFormat, where: str) -> None:
    """InputError where the ids that a server sends mean another text to our tokenizer than the one it sends beside."""
    text, ours = choice.get("text"), tokens.decode(choice["token_ids"])
    # Nothing, or a part of a character, says nothing; whether a first space is kept differs between tokenizers.
    if not isinstance(text, str) or not text.strip() or not ours.strip() or "\ufffd" in text + ours:
        return
    if text.strip() != ours.strip():
        raise InputError(
            f"the server writes {text!r} for ids that the tokenizer given for it reads as {ours!r}",
            where=where,
            fix="Give the tokenizer of the model that it serves: ,tokenizer=<folder or Hub id>, or --tokenizer.",
        )


def _adds_bos(found: Any, tokens: TokenFormat, where: str) -> bool:
    """Whether the server adds a first token. InputError when its tokenizer is plainly another than ours."""
    expected = len(encode(tokens.tokenizer, tokens.probe))
    if type(found) is not int or found == expected:
        return False
    if found == expected + 1 and tokens.bos:
        return True
    raise InputError(
        f"the server reads a text as {found} tokens that the tokenizer given for it reads as {expected}",
        where=where,
        fix="Give the tokenizer of the model that it serves: ,tokenizer=<folder or Hub id>, or --tokenizer.",
    )
