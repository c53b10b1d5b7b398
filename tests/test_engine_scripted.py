"""The scripted engine: the real forcing over a model that thinks what it is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from engine_parity import (
    NUM_REQUESTS,
    assert_bounds_hold,
    assert_bounds_hold_when_sampling,
    assert_streams_add_up,
    random_requests,
    tokens_of,
)

from s1kit import Generation, Request, ThinkingBudget, load_engine
from s1kit.cli import main
from s1kit.engines.scripted import ScriptedEngine, Step
from s1kit.errors import InputError
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.request import Prefix
from s1kit.records import Segment

STEPS = (Step("one and one is three .", "3"), Step(" no , it is two .", "2"), Step(" yes , two .", "2"))


def ask(budget: ThinkingBudget, **fields: object) -> Generation:
    engine = ScriptedEngine({"1+1?": STEPS})
    (generation,) = engine.generate([Request(question="1+1?", budget=budget, **fields)])  # type: ignore[arg-type]
    return generation


def test_each_wait_takes_the_next_step_and_the_answer_is_that_of_the_last_one() -> None:
    for num_waits, thinking, answer in (
        (0, "one and one is three .", "3"),
        (1, "one and one is three .\nWait no , it is two .", "2"),
        (2, "one and one is three .\nWait no , it is two .\nWait yes , two .", "2"),
    ):
        generation = ask(ThinkingBudget(100, 0, num_waits))
        assert (generation.thinking, generation.answer, generation.num_waits) == (thinking, answer, num_waits)
        assert generation.ending == "closed"
        assert generation.answer_finish == "stop"


def test_waits_beyond_the_script_are_attempts_to_stop_right_away() -> None:
    generation = ask(ThinkingBudget(100, 0, 6))
    assert generation.num_waits == 6
    assert generation.thinking.endswith("two .\nWait\nWait\nWait\nWait")
    assert generation.answer == "2"


def test_a_cutoff_gives_the_answer_of_the_last_finished_step_or_none() -> None:
    early, late = ask(ThinkingBudget(3)), ask(ThinkingBudget(9, 0, 1))
    assert (early.thinking, early.answer, early.ending) == ("one and one", "Final Answer:?", "cut_off")
    assert (late.thinking_tokens, late.answer, late.ending) == (9, "Final Answer:3", "cut_off")
    assert ask(ThinkingBudget(0)).answer == "Final Answer:?"


def test_a_minimum_makes_it_wait_for_as_long() -> None:
    generation = ask(ThinkingBudget(100, 20))
    assert generation.thinking_tokens >= 20
    assert generation.num_waits >= 2


def test_thinking_that_was_given_counts_as_thought() -> None:
    whole = ask(ThinkingBudget(100, 0, 1))
    given = tuple(s for s in whole.segments if s.kind in ("thinking", "wait"))
    engine = ScriptedEngine({"1+1?": STEPS})
    words = [engine.tokenizer.encode(s.text) for s in given]
    segments = tuple(Segment.of_ids(s.origin, s.kind, s.text, tuple(i)) for s, i in zip(given, words, strict=True))
    for length, answer in ((6, "3"), (4, "Final Answer:?"), (None, "2")):
        request = Request(question="1+1?", budget=ThinkingBudget(100, 0, 1))
        ending = "cut_off" if length == 4 else "closed"
        prefix = Prefix(segments, ending, length)  # type: ignore[arg-type]
        (generation,) = engine.generate([Request(**{**_fields(request), "prefix": prefix})])  # type: ignore[arg-type]
        assert generation.answer == answer


def _fields(request: Request) -> dict[str, object]:
    return {"question": request.question, "budget": request.budget}


def test_a_question_without_a_script_is_answered_all_the_same() -> None:
    (generation,) = load_engine("scripted").generate([Request(question="Anything?")])
    assert generation.answer == "I do not know"


@pytest.mark.parametrize("name", ["s1", "qwen3", "deepseek-r1", "gpt-oss", "magistral"])
def test_every_format_that_thinks_can_be_scripted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"1+1?": [["hm", "3"], [" so", "2"]]}), encoding="utf-8")
    engine = load_engine(f"scripted:{path}", format=name)
    (generation,) = engine.generate([Request(question="1+1?", budget=ThinkingBudget(50, 0, 1), wait=" But")])
    assert (generation.thinking, generation.answer, generation.num_waits) == ("hm But so", "2", 1)


def test_without_thinking_the_answer_is_that_of_the_first_step() -> None:
    (generation,) = ScriptedEngine({"1+1?": STEPS}, FORMATS["direct"]).generate([Request("1+1?")])
    assert [(s.kind, s.text) for s in generation.segments] == [("answer", "3")]
    assert generation.answer_finish == "stop"


@pytest.mark.parametrize("max_batch", [1, 3])
def test_no_more_decode_together_than_may(max_batch: int) -> None:
    batch = ScriptedEngine({"1+1?": STEPS}, max_batch=max_batch).running_batch()
    engine = batch.engine
    for _ in range(4):
        batch.admit(engine.plan(Request("1+1?")), is_streamed=True)
    assert len({event.ticket for _ in range(3) for event in batch.step()}) == max_batch


@pytest.mark.parametrize(
    "text", ["no json", "[1]", '{"q": "thinking"}', '{"q": [["only one"]]}', '{"q": ["ab"]}', '{"q": [{"a": "b"}]}']
)
def test_a_file_that_is_no_script_is_refused_with_an_example(text: str, tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"not a script.*\[\[\"thinking\", \"answer\"\]"):
        load_engine(f"scripted:{path}")


def test_a_step_of_a_script_file_may_be_an_object(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text('{"q": [{"thinking": "hm .", "answer": "4"}]}', encoding="utf-8")
    (reply,) = load_engine(f"scripted:{tmp_path / 'script.json'}").generate([Request("q")])
    assert (reply.thinking.strip(), reply.answer.strip()) == ("hm .", "4")


def restless(question: str) -> Sequence[Step]:
    """A few short steps, so that the model tries to stop often."""
    random = Random(question)
    return [Step(" a" * random.randint(1, 9), str(i)) for i in range(random.randint(1, 6))]


def test_the_bounds_hold_over_many_random_requests() -> None:
    asked = random_requests(max(NUM_REQUESTS, 300))
    found = list(ScriptedEngine(restless).generate(asked))
    assert len(found) == len(asked)
    assert sum(g.num_waits for g in found) > len(asked) // 10
    for generation in found:
        assert_bounds_hold(asked[generation.repeat], generation)
    assert_bounds_hold_when_sampling(ScriptedEngine(restless))


def test_what_is_streamed_is_the_record_and_streaming_changes_nothing() -> None:
    assert_streams_add_up(ScriptedEngine(restless))
    assert_streams_add_up(ScriptedEngine(restless), stop=(" a", "1"))
    asked = random_requests(20)
    shown: list[int] = []
    streamed = list(ScriptedEngine(restless).generate(asked, lambda i, s: shown.append(i)))
    assert set(shown) == set(range(20))
    assert [tokens_of(g) for g in streamed] == [tokens_of(g) for g in ScriptedEngine(restless).generate(asked)]


def test_ask_marks_what_was_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"1+1?": [["hm", "3"], [" two .", "2"]]}), encoding="utf-8")
    assert main(["ask", "1+1?", "--model", f"scripted:{path}", "--waits", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("hm[\nWait] two .")
    assert "1 waits" in err


def test_a_caller_that_stops_listening_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine(restless)
    batch = engine.running_batch()
    monkeypatch.setattr(engine, "running_batch", lambda: batch)
    running = engine.generate(random_requests(20))
    next(running)
    assert not batch.is_idle
    running.close()
    assert batch.is_idle
