"""The completions engine against the token-level driver, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from engine_parity import joined_text
from fake_sampler import by_rows
from fixtures_models import SPECIALS, write_tokenizer
from servers.completions_server import CompletionsServer

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.engines.completions.engine import CompletionsEngine
from s1kit.errors import InputError
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.records import Generation, Segment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder in which `</think>` is a token that is shown, as in Qwen3's."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, SPECIALS)
    raw = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    top = max(raw["model"]["vocab"].values()) + len(SPECIALS)
    for i, content in enumerate(("<think>", "</think>"), 1):
        shown = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        raw["added_tokens"].append({"id": top + i, "content": content, **shown})
    (folder / "tokenizer.json").write_text(json.dumps(raw), encoding="utf-8")
    return folder


def letters_and_stops(tokenizer: FileTokenizer, seed: int, stops: Sequence[int]) -> Any:
    """Letters that never merge, and every eighth token or so one of the stops."""
    letters = tokenizer.encode("xyzq")

    def sample(context: Sequence[int]) -> int:
        random = Random(f"{seed}:{list(context)}")
        return random.choice(stops) if random.random() < 0.12 else random.choice(letters)

    return sample


def requests(num: int, **fields: Any) -> list[Request]:
    out = []
    for i in range(num):
        random = Random(i)
        most = random.choice([0, 1, 2, 7, 30])
        budget = ThinkingBudget(most, 0, random.randint(0, 4))
        out.append(Request(question=f"q{i}", budget=budget, answer_tokens=random.randint(4, 12), repeat=i, **fields))
    return out


@pytest.fixture
def ids_server(folder: Path) -> Iterator[tuple[CompletionsServer, CompletionsEngine]]:
    tokenizer = FileTokenizer(folder)
    eos = tokenizer.eos_token_id
    assert eos is not None
    sample = letters_and_stops(tokenizer, 1, [eos, tokenizer.get_vocab()["<|im_start|>"]])
    with CompletionsServer(tokenizer, sample, eos) as server:
        engine = load_engine(f"completions:{server.url}#fake,tokenizer={folder}", format="s1")
        assert isinstance(engine, CompletionsEngine)
        yield server, engine
        engine.close()


def test_with_token_ids_the_transcript_is_that_of_the_token_level_driver(ids_server: tuple) -> None:
    server, engine = ids_server
    assert engine.mode == "ids"
    assert engine.context_tokens == 4096
    asked = requests(120)
    found = sorted(engine.generate(asked), key=lambda g: g.repeat)
    for request, generation in zip(asked, found, strict=True):
        assert generation == by_rows(engine.plan(request), server.sample)
    assert sum(g.num_waits for g in found) > 30


def test_over_text_the_transcript_is_the_same_where_no_tokens_merge_and_says_text(folder: Path) -> None:
    tokenizer = FileTokenizer(folder)
    eos, end = tokenizer.eos_token_id, tokenizer.get_vocab()["</think>"]
    assert eos is not None
    sample = letters_and_stops(tokenizer, 2, [eos, end])
    with CompletionsServer(tokenizer, sample, eos, knows_ids=False) as server:
        engine = load_engine(f"completions:{server.url}#fake,tokenizer={folder}", format=UNMERGED)
        assert isinstance(engine, CompletionsEngine)
        assert engine.mode == "text"
        asked = requests(80)
        for generation in engine.generate(asked):
            expected = by_rows(engine.plan(asked[generation.repeat]), sample)
            assert generation.seam == "text"
            assert [s.token_ids for s in generation.segments if s.kind != "close"] == [
                s.token_ids for s in expected.segments if s.kind != "close"
            ]
            assert (generation.ending, generation.num_waits) == (expected.ending, expected.num_waits)
        engine.close()


def test_over_text_a_special_delimiter_would_be_invisible_and_is_refused(folder: Path) -> None:
    tokenizer = FileTokenizer(folder)
    with (
        CompletionsServer(tokenizer, lambda _: 1, 0, knows_ids=False) as server,
        pytest.raises(InputError, match="does not show the end of thinking of format 's1'"),
    ):
        load_engine(f"completions:{server.url}#fake,tokenizer={folder}", format=FORMATS["s1"])


def test_what_is_streamed_adds_up_to_the_record(ids_server: tuple) -> None:
    _, engine = ids_server
    shown: dict[int, list[Segment]] = {}
    asked = requests(30, stop=("yz", "qq"))
    for generation in engine.generate(asked, lambda i, s: shown.setdefault(i, []).append(s)):
        ids = [t for s in generation.segments for t in s.token_ids]
        assert [t for s in shown[generation.repeat] for t in s.token_ids] == ids
        assert joined_text(shown[generation.repeat]) == joined_text(generation.segments)


UNMERGED = replace(FORMATS["qwen3"], lead="", open="<think>", end="</think>")
"""Without a newline before the delimiter nothing merges with its neighbours when the text is tokenised again."""


@pytest.fixture
def text_server(folder: Path) -> Iterator[tuple[CompletionsServer, CompletionsEngine]]:
    tokenizer = FileTokenizer(folder)
    eos, vocabulary = tokenizer.eos_token_id, tokenizer.get_vocab()
    assert eos is not None
    sample = letters_and_stops(tokenizer, 2, [eos, vocabulary["</think>"], vocabulary["<think>"]])
    with CompletionsServer(tokenizer, sample, eos, knows_ids=False) as server:
        engine = load_engine(f"completions:{server.url}#fake,tokenizer={folder}", format=UNMERGED)
        assert isinstance(engine, CompletionsEngine)
        yield server, engine
        engine.close()


@pytest.mark.parametrize("streams", [True, False])
def test_over_text_what_is_streamed_is_the_record_too(text_server: tuple, streams: bool) -> None:
    server, engine = text_server
    server.streams = streams
    shown: dict[int, list[Segment]] = {}
    asked = requests(40, stop=("yz", "qq"))
    whole = {g.repeat: g for g in engine.generate(asked)}
    for generation in engine.generate(asked, lambda i, s: shown.setdefault(i, []).append(s)):
        pieces = shown[generation.repeat]
        assert generation == whole[generation.repeat]
        assert [t for s in pieces for t in s.token_ids] == [t for s in generation.segments for t in s.token_ids]
        assert joined_text(pieces) == joined_text(generation.segments)
    assert any(s.kind == "open" for g in whole.values() for s in g.segments)


def test_over_text_thinking_that_is_opened_again_shares_the_one_budget(text_server: tuple) -> None:
    _, engine = text_server
    asked = requests(60)
    for generation in engine.generate(asked):
        budget = asked[generation.repeat].budget
        assert budget is not None
        assert generation.thinking_tokens <= budget.max_tokens
        assert generation.answer_tokens <= asked[generation.repeat].answer_tokens


def test_a_stream_ends_where_thinking_or_the_answer_begins_to_repeat_itself(folder: Path) -> None:
    tokenizer = FileTokenizer(folder)
    x, y = tokenizer.encode("xy")
    with CompletionsServer(tokenizer, lambda context: y if context[-1] == x else x, 0, context=4000) as server:
        engine: Any = load_engine(f"completions:{server.url}#fake,tokenizer={folder}", format="s1")
        request = Request(question="q", budget=ThinkingBudget(2000), answer_tokens=400)
        shown: list[Segment] = []
        (streamed,) = engine.generate([request], lambda _, s: shown.append(s))
        (whole,) = engine.generate([request])
        engine.close()
    assert streamed == whole
    assert (streamed.ending, streamed.thinking_tokens) == ("loop", 192)
    assert streamed.answer_finish == "loop"
    assert [sum(s.num_tokens for s in shown if s.kind == kind) for kind in ("thinking", "answer")] == [192, 192]


def test_a_stream_that_is_broken_off_fails_its_request_and_says_why(text_server: tuple) -> None:
    server, engine = text_server
    server.breaks_off = True
    (generation,) = engine.generate([Request(question="q", budget=ThinkingBudget(5))], lambda _, s: None)
    assert generation.ending == "failed"
    assert "ended the stream before the completion did" in generation.note


def test_every_setting_is_said_so_that_the_server_fills_in_none_of_its_own(ids_server: tuple) -> None:
    server, engine = ids_server
    server.bodies.clear()
    list(engine.generate([Request(question="q", budget=ThinkingBudget(5))]))
    neutral = {"min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0, "top_k": 0, "top_p": 1.0}
    assert all(body | neutral == body for body in server.bodies)


def test_a_server_that_knows_only_openais_fields_is_asked_with_those_and_top_k_is_refused(folder: Path) -> None:
    tokenizer = FileTokenizer(folder)
    eos = tokenizer.eos_token_id
    assert eos is not None
    sample = letters_and_stops(tokenizer, 3, [eos, tokenizer.get_vocab()["</think>"]])
    with CompletionsServer(tokenizer, sample, eos, knows_ids=False) as server:
        server.fields = frozenset({"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "stream"})
        engine: Any = load_engine(f"completions:{server.url}#fake,tokenizer={folder}", format=UNMERGED)
        assert engine.capabilities.dialect.name == "plain"
        assert all(g.ending != "failed" for g in engine.generate(requests(5)))
        with pytest.raises(InputError, match="top_k is 5, and whether a server of kind plain heeds it"):
            engine.plan(Request(question="q", temperature=1.0, top_k=5))
        engine.close()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"wait": ""}, "the wait is empty"),
        ({"wait": ()}, "the list of waits is empty"),
        ({"wait": "no <|im_start|>"}, "contains a delimiter"),
        ({"answer_tokens": 2}, "answer_tokens is 2, and the closing phrase"),
        ({"question": "word " * 5000}, "the prompt is .* tokens long and the context 4096"),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_anything_is_asked(
    ids_server: tuple, fields: dict[str, Any], complaint: str
) -> None:
    server, engine = ids_server
    server.bodies.clear()
    with pytest.raises(InputError, match=complaint) as caught:
        list(engine.generate([Request(question="fine"), Request(**({"question": "q"} | fields))]))
    assert isinstance(caught.value, ValueError)
    assert server.bodies == []


@pytest.mark.parametrize("more", [-1, 1, 5])
def test_a_server_that_reads_text_as_other_tokens_has_another_tokenizer(folder: Path, more: int) -> None:
    with CompletionsServer(FileTokenizer(folder), lambda _: 1, 0, knows_ids=False) as server:
        server.more_prompt_tokens = more
        with pytest.raises(InputError, match=r"tokens that the tokenizer given for it reads as .*,tokenizer="):
            load_engine(f"completions:{server.url}#fake,tokenizer={folder}", format=UNMERGED)


def test_a_first_token_that_the_server_adds_is_not_sent_twice(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"bos_token": "<|endoftext|>", "chat_template": "<|endoftext|>{{ messages[-1].content }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer = FileTokenizer(tmp_path)
    eos = tokenizer.eos_token_id
    assert eos is not None
    sample = letters_and_stops(tokenizer, 1, [eos, tokenizer.get_vocab()["</think>"]])
    with CompletionsServer(tokenizer, sample, eos, knows_ids=False) as server:
        for more, begins in ((1, "Which?"), (0, "<|endoftext|>Which?")):
            server.more_prompt_tokens = more
            engine: Any = load_engine(f"completions:{server.url}#fake,tokenizer={tmp_path}", format=UNMERGED)
            server.bodies.clear()
            list(engine.generate([Request(question="Which?", budget=ThinkingBudget(5))]))
            assert all(body["prompt"].startswith(begins) for body in server.bodies)
            engine.close()


def test_options_in_the_reference_are_read_and_misspelled_ones_named(folder: Path) -> None:
    tokenizer = FileTokenizer(folder)
    with CompletionsServer(tokenizer, lambda _: 1, 0) as server:
        start = f"completions:{server.url}#fake,tokenizer={folder}"
        engine: Any = load_engine(f"{start},context_tokens=777,num_parallel=3", format="s1")
        assert (engine.context_tokens, engine.num_parallel) == (777, 3)
        engine.close()
        with pytest.raises(InputError, match=r"no option 'context'.*context_tokens"):
            load_engine(f"{start},context=777")
        with pytest.raises(InputError, match="num_parallel is '0'"):
            load_engine(f"{start},num_parallel=0", format="s1")


def test_a_folder_without_a_tokenizer_and_an_unknown_format_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json in"):
        load_engine(f"completions:http://127.0.0.1:9/v1#m,tokenizer={tmp_path}")
    with pytest.raises(InputError, match=r"unknown thinking format 'qwen9'.*qwen3"):
        load_engine(f"completions:http://127.0.0.1:9/v1#m,tokenizer={folder}", format="qwen9")


def test_each_completion_of_a_request_has_its_own_seed_and_the_request_its_sampling(ids_server: tuple) -> None:
    server, engine = ids_server
    server.bodies.clear()
    request = Request(question="q", budget=ThinkingBudget(40, 30), temperature=0.7, top_p=0.9, top_k=5, seed=3)
    list(engine.generate([request]))
    assert len({b["seed"] for b in server.bodies}) == len(server.bodies) > 2
    assert {(b["temperature"], b["top_p"], b["top_k"]) for b in server.bodies} == {(0.7, 0.9, 5)}


def test_a_server_that_fails_for_good_fails_its_request_and_no_other(ids_server: tuple, monkeypatch: Any) -> None:
    monkeypatch.setattr("s1kit.engines.completions.engine._RETRY_SECONDS", 0.0)
    server, engine = ids_server
    engine.num_parallel = 1
    server.failures[:] = [503, 400]
    found: list[Generation] = sorted(engine.generate(requests(3)), key=lambda g: g.repeat)
    failed = [g for g in found if g.ending == "failed"]
    assert len(failed) == 1
    assert "refuses the request (status 400): broken on purpose" in failed[0].note


def test_a_transient_refusal_is_tried_again(ids_server: tuple, monkeypatch: Any) -> None:
    monkeypatch.setattr("s1kit.engines.completions.engine._RETRY_SECONDS", 0.0)
    server, engine = ids_server
    server.failures[:] = [503, 429]
    assert all(g.ending != "failed" for g in engine.generate(requests(3)))


def test_a_server_that_is_not_there_is_the_users_mistake(folder: Path) -> None:
    with pytest.raises(InputError, match="the server does not answer"):
        load_engine(f"completions:http://127.0.0.1:9/v1#m,tokenizer={folder}")


@pytest.mark.parametrize("reference", ["localhost:8000#m", "http://x/v1", "http://x/v1#"])
def test_a_reference_that_is_not_url_and_model_is_refused(reference: str) -> None:
    with pytest.raises(InputError, match="is not <base URL>#<model>"):
        load_engine(f"completions:{reference}")


def test_a_reply_that_is_not_what_was_asked_fails_the_request(ids_server: tuple) -> None:
    server, engine = ids_server
    server.complete = lambda _: (200, {"choices": [{"text": "", "token_ids": [1] * 999}], "usage": {}})
    (generation,) = engine.generate([Request(question="q", budget=ThinkingBudget(5))])
    assert generation.ending == "failed"
    assert "tokens where at most 5 were asked for" in generation.note
