"""What a request costs before it is decoded: the vocabulary is not read, choices share a plan."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("starlette")

from serving import ScriptedServing

from s1kit.serve.chat import ChatBody, CompletionBody
from s1kit.serve.dial import EFFORTS
from s1kit.serve.jobs import parse_chat, parse_completion
from s1kit.serve.local import Local
from s1kit.serve.refusals import Refusal

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "1+1?"}]}


@pytest.fixture
def backend() -> Local:
    return Local(ScriptedServing({}), "scripted")


def test_no_request_reads_the_whole_vocabulary(backend: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 150,000 tokens that takes 0.16 s, in which nobody else is answered.
    _ = backend.tokens.num_ids
    known = backend.tokens.tokenizer.encode("a b c", add_special_tokens=False)

    def get_vocab(_: object) -> dict[str, int]:
        raise AssertionError("the vocabulary is read")

    monkeypatch.setattr(type(backend.tokens.tokenizer), "get_vocab", get_vocab)
    parse_chat(ChatBody(**CHAT), backend, EFFORTS, None)
    parse_completion(CompletionBody(prompt=known), backend, EFFORTS, None)
    with pytest.raises(Refusal, match="holds the id 1000000"):
        parse_completion(CompletionBody(prompt=[1_000_000]), backend, EFFORTS, None)


def test_choices_share_their_prompt_and_waits_and_differ_by_seed(
    backend: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    tokenizer = type(backend.tokens.tokenizer)
    encode = tokenizer.encode

    def counting(self: Any, text: str, *, add_special_tokens: bool = False) -> list[int]:
        encoded.append(text)
        return encode(self, text, add_special_tokens=add_special_tokens)

    monkeypatch.setattr(tokenizer, "encode", counting)
    body = CHAT | {"n": 8, "num_waits": 1, "wait": ["So", "Hmm"], "seed": 5, "temperature": 1.0}
    jobs = parse_chat(ChatBody(**body), backend, EFFORTS, None).jobs
    assert [job.plan.request.seed for job in jobs] == list(range(5, 13))
    assert [job.sampling["seed"] for job in jobs] == list(range(5, 13))
    assert encoded.count("Hmm") == 1
    assert len({id(job.plan.prompt_ids) for job in jobs}) == 1
    assert len({id(job.stop) for job in jobs}) == 8, "each choice is stopped by itself"
