"""The two drivers of forcing: the same transcript, and the laws of the machine in the text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest
from fake_sampler import (
    ONE_TOKEN,
    SEVERAL,
    SPECIALS,
    SPELLED,
    WITH_LEAD,
    LetterTokenizer,
    by_flow,
    by_rows,
    complete,
    sampler,
)

import s1kit
from s1kit.engines.scripted import ScriptedBatch, ScriptedEngine, Step
from s1kit.errors import InputError
from s1kit.forcing import UNLIMITED, ThinkingBudget
from s1kit.forcing.formats import ThinkingFormat
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.repetition import first_loop, is_looping
from s1kit.forcing.request import Prefix, Request
from s1kit.forcing.segment_driver import Completed, drive_segments
from s1kit.forcing.token_driver import TokenDriver
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Generation, Segment

FORMATS = (ONE_TOKEN, WITH_LEAD, SEVERAL, SPELLED)
TOKENS = {f.name: TokenFormat(f, LetterTokenizer(SPECIALS[f.name])) for f in FORMATS}


def plan_of(fmt: ThinkingFormat, request: Request, context: int = 4096) -> Plan:
    return make_plan(request, TOKENS[fmt.name], context)


def random_plan(seed: int, fmt: ThinkingFormat) -> Plan:
    random = Random(seed)
    wait = random.choice([None, "W", "W a", ("W", "T a", "A")])
    most = random.choice([0, 1, 2, 3, 4, 5, 8, random.randint(0, 60)])
    least = random.choice([most, random.randint(0, most)]) if random.random() < 0.3 else 0
    budget = ThinkingBudget(most, least, random.choice([0, 0, 1, 2, 9]))
    stop = random.choice([(), (), ("b\n",), ("a", "ab")])
    request = Request(
        question="q",
        budget=budget,
        answer_tokens=random.randint(3, 25),
        wait=wait,
        stop=stop,
        loop_guard=random.random() < 0.7,
    )
    return plan_of(fmt, request)


def joined(segments: list[Segment]) -> list[tuple[str, str, str, tuple[int, ...]]]:
    """Streamed segments with neighbours of one run put together; each wait stays one."""
    out: list[tuple[str, str, str, tuple[int, ...]]] = []
    for s in segments:
        if out and out[-1][:2] == (s.origin, s.kind) and s.origin == "sampled" and s.kind in ("thinking", "answer"):
            origin, kind, text, ids = out[-1]
            out[-1] = (origin, kind, text + s.text, ids + s.token_ids)
        else:
            out.append((s.origin, s.kind, s.text, s.token_ids))
    return out


@pytest.mark.parametrize("run", [by_rows, by_flow])
def test_an_answer_that_ends_before_it_begins_gets_the_closing_phrase_once(run: Any) -> None:
    plan = plan_of(WITH_LEAD, Request(question="q", budget=ThinkingBudget(9), answer_tokens=8))
    eos = plan.tokens.tokenizer.eos_token_id
    generation = run(plan, lambda _: eos)
    assert [s.kind for s in generation.segments] == ["close", "closing_phrase"]
    assert (generation.answer, generation.ending, generation.answer_finish) == ("F:", "closed", "stop")
    without = plan_of(WITH_LEAD, Request(question="q", budget=ThinkingBudget(9), answer_tokens=8, closing_phrase=""))
    assert run(without, lambda _: eos).answer == ""


@pytest.mark.parametrize("run", [by_rows, by_flow])
def test_an_answer_of_white_space_alone_is_none_and_gets_the_closing_phrase_too(run: Any) -> None:
    plan = plan_of(WITH_LEAD, Request(question="q", budget=ThinkingBudget(9), answer_tokens=8))
    tokenizer, end = plan.tokens.tokenizer, plan.tokens.end_ids
    (newline,) = tokenizer.encode("\n", add_special_tokens=False)

    def sample(context: Any) -> int:
        return newline if tuple(context[-len(end) :]) == end else int(tokenizer.eos_token_id)

    generation = run(plan, sample)
    assert [s.kind for s in generation.segments] == ["close", "answer", "closing_phrase"]
    assert (generation.answer, generation.answer_finish) == ("\nF:", "stop")


@pytest.mark.parametrize(("wait", "text"), [(None, "ab\nWait"), ("W", "abW"), (" W", "ab W")])
@pytest.mark.parametrize("run", [by_rows, by_flow])
def test_the_formats_own_wait_begins_a_line_and_a_given_one_goes_in_as_it_is(run: Any, wait: str, text: str) -> None:
    plan = plan_of(WITH_LEAD, Request(question="q", budget=ThinkingBudget(40, 0, 1), answer_tokens=8, wait=wait))
    tokens = plan.tokens
    a, b = tokens.tokenizer.encode("ab", add_special_tokens=False)
    eos, start = tokens.tokenizer.eos_token_id, len(plan.prompt_ids)

    def thinks(*ids: int) -> str:
        script = dict(enumerate(ids, start))
        return str(run(plan, lambda context: script.get(len(context), eos)).thinking)

    assert thinks(a, b) == text
    assert thinks(a, b, tokens.lead_ids[0]) == f"ab\n{wait or 'Wait'}"


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_both_drivers_give_the_same_transcript_over_a_thousand_random_budgets(fmt: ThinkingFormat) -> None:
    endings = set()
    for seed in range(1000):
        plan = random_plan(seed, fmt)
        spell = plan.tokens.match_ids if plan.tokens.trigger_id is None else ()
        sample = sampler(seed, plan, Random(seed).choice([0.02, 0.1, 0.4]), spell)
        one, other = by_rows(plan, sample), by_flow(plan, sample)
        assert one == other, seed
        endings.add((one.ending, one.answer_finish))
        budget = plan.budget
        assert one.thinking_tokens <= budget.max_tokens
        assert one.thinking_tokens >= budget.min_tokens
        assert one.answer_tokens <= plan.request.answer_tokens
        assert one.answer_finish != "none"
        assert not one.was_cut_off or one.thinking_tokens == budget.max_tokens
        if not budget.min_tokens:
            assert one.num_waits <= budget.num_waits
    assert {e for e, _ in endings} >= {"closed", "cut_off"}
    assert {f for _, f in endings} == {"stop", "length", "stop_string"}


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_thinking_ended_from_outside_is_a_budget_spent_there(fmt: ThinkingFormat) -> None:
    num_ended = 0
    for seed in range(300):
        plan = plan_of(fmt, Request(question="q", budget=ThinkingBudget(40, 0, 0), answer_tokens=12, loop_guard=False))
        spell = plan.tokens.match_ids if plan.tokens.trigger_id is None else ()
        sample, least = sampler(seed, plan, 0.1, spell), Random(seed).randint(0, 30)
        row = TokenDriver(plan)
        context, shown = list(row.start()), []
        spent = None
        while not row.is_done:
            if spent is None and row.is_thinking and row.thinking_tokens >= least:
                spent = row.thinking_tokens
                context += row.end_thinking()
                assert not row.end_thinking()
                continue
            ids = row.push(sample(context))
            if row.drop:
                del context[-row.drop :]
            context += ids
            shown += row.new_segments()
        if spent is None:
            continue
        num_ended += 1
        budget = ThinkingBudget(spent)
        wanted = by_rows(replace(plan, budget=budget, request=replace(plan.request, budget=budget)), sample)
        assert row.generation() == wanted
        assert joined(shown) == joined(list(wanted.segments))
    assert num_ended > 50


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_a_completion_cut_to_end_thinking_gives_the_transcript_of_a_budget_spent_there(fmt: ThinkingFormat) -> None:
    for seed in range(300):
        plan = plan_of(fmt, Request(question="q", budget=ThinkingBudget(40, 30), answer_tokens=12, loop_guard=False))
        sample, spent = sampler(seed, plan, 0.0), Random(seed).randint(0, 39)
        steps = drive_segments(plan)
        reply = complete(next(steps), sample, plan)
        reply = replace(reply, ids=reply.ids[:spent], stop_id=None, stop_text=None, ends_thinking=True)
        try:
            while True:
                reply = complete(steps.send(reply), sample, plan)
        except StopIteration as done:
            generation = done.value
        budget = ThinkingBudget(spent)
        assert generation == by_rows(replace(plan, budget=budget, request=replace(plan.request, budget=budget)), sample)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_what_is_streamed_is_what_the_record_says(fmt: ThinkingFormat) -> None:
    for seed in range(300):
        plan = random_plan(seed, fmt)
        spell = plan.tokens.match_ids if plan.tokens.trigger_id is None else ()
        sample = sampler(seed, plan, 0.1, spell)
        for drive in (by_rows, by_flow):
            shown: list[Segment] = []
            generation = drive(plan, sample, shown)
            assert joined(shown) == joined(list(generation.segments)), (seed, drive)


@pytest.mark.parametrize("drive", [by_rows, by_flow])
def test_a_wait_is_cut_to_the_room_where_the_minimum_is_the_maximum(drive: Any) -> None:
    plan = plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(7, 7), answer_tokens=8, wait="Wait"))
    end, eos = plan.tokens.trigger_id, plan.tokens.tokenizer.eos_token_id
    a = plan.tokens.tokenizer.encode("a", add_special_tokens=False)[0]

    def sample(context: Any) -> int:
        if end in context:
            return eos
        return end if a in context else a

    generation = drive(plan, sample)
    assert (generation.thinking, generation.thinking_tokens, generation.num_waits) == ("aWaitWa", 7, 2)
    assert generation.was_cut_off
    assert generation.answer == "F:"


def test_a_maximum_above_the_room_is_honoured_by_the_room_and_the_generation_says_so() -> None:
    plan = plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(90, 87), answer_tokens=10), 100)
    assert (plan.budget, plan.lowered_from) == (ThinkingBudget(87, 87), 90)
    generation = by_rows(plan, sampler(1, plan, 0.1))
    assert (generation.thinking_tokens, generation.note) == (87, "max_tokens 90 was lowered to 87, the room there is")
    assert plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(UNLIMITED), answer_tokens=10), 100).note == ""


def test_a_loop_ends_thinking_and_not_the_request_in_both_drivers_at_the_same_token() -> None:
    plan = plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(1000), answer_tokens=8))
    a, b = plan.tokens.tokenizer.encode("ab", add_special_tokens=False)
    thinking = [b] * 7 + [a, b, b] * 400

    def sample(context: object) -> int:
        done = len(context) - len(plan.prompt_ids)  # type: ignore[arg-type]
        return thinking[done] if done < 300 and list(context)[-1] != a + 99 else b  # type: ignore[call-overload]

    one, other = by_rows(plan, sample), by_flow(plan, sample)
    assert one == other
    assert one.ending == "loop"
    assert one.thinking_tokens == 224
    assert one.answer.startswith("F:")
    assert one.answer_tokens == 8


def test_the_loop_guard_never_breaks_the_minimum_and_can_be_switched_off() -> None:
    for least, guard, expected in ((600, True, 608), (0, False, 1000)):
        budget = ThinkingBudget(1000, least)
        plan = plan_of(ONE_TOKEN, Request(question="q", budget=budget, answer_tokens=8, loop_guard=guard))
        letter = plan.tokens.tokenizer.encode("a", add_special_tokens=False)[0]

        def always(_: object, letter: int = letter) -> int:
            return letter

        assert by_rows(plan, always).thinking_tokens == expected
        assert by_flow(plan, always).thinking_tokens == expected


def test_an_answer_that_repeats_itself_is_ended_at_the_same_token_by_both_drivers() -> None:
    encode = TOKENS[ONE_TOKEN.name].tokenizer.encode
    for stop, guard, finish, num in (((), True, "loop", 192), (("zz",), True, "loop", 192), ((), False, "length", 400)):
        plan = plan_of(
            ONE_TOKEN,
            Request(question="q", budget=ThinkingBudget(0), answer_tokens=400, stop=stop, loop_guard=guard),
        )
        letters = encode("abcdefgh", add_special_tokens=False)

        def sample(context: Sequence[int], letters: Sequence[int] = letters) -> int:
            return letters[len(context) % 8]

        for generation in (by_rows(plan, sample), by_flow(plan, sample)):
            assert generation.answer_finish == finish
            sampled = sum(s.num_tokens for s in generation.segments if s.kind == "answer")
            assert sampled == (num if guard else num - len(plan.closing.ids))


def test_sentences_that_count_on_are_a_loop_from_the_twelfth_on_and_lists_of_numbers_are_none() -> None:
    names = ["the", "king", "of", "old", "said", "so", "and", "left", ".", ":", "=", ",", "_"]
    words = {word: n for n, word in enumerate(names, start=10)}
    kinds = {n: "a" if word.isalpha() else "" for word, n in words.items()} | {n: str(n) for n in range(10)}

    def ids(text: str) -> list[int]:
        return [n for part in text.split() for n in ([words[part]] if part in words else map(int, part))]

    def numbered(sentence: str, start: int = 3, count: int = 40, step: int = 1) -> list[int]:
        rows = (sentence.replace("#", str(start + step * n)).replace("%", str(n * n)) for n in range(count))
        return ids(" ".join(rows))

    said = "# : the king of old said so and left 10 . the king of old said so and left = ,"
    assert is_looping(numbered(said), kinds)
    assert is_looping(numbered(said, start=90, step=-1), kinds)
    assert not is_looping(numbered(said))
    for other in (
        numbered("# ,", count=200),
        numbered("# _ 7 = # ,"),
        numbered(said.replace("10", "%")),
        numbered(said, step=2),
    ):
        assert len(other) > 192
        assert not is_looping(other, kinds)
    few = numbered(said, count=12)
    assert not is_looping(few[: len(few) - len(ids(said.replace("#", "14")))], kinds)


def test_a_loop_is_found_at_any_period_and_random_text_is_none() -> None:
    random = Random(0)
    for period in (1, 2, 3, 17, 64, 255, 256):
        block = [random.randrange(50) for _ in range(period)]
        text = [random.randrange(50) for _ in range(99)] + block * 300
        assert is_looping(text[: 99 + max(4 * period, 192) + period])
    assert not is_looping([random.randrange(3) for _ in range(5000)])
    assert first_loop([random.randrange(3) for _ in range(2000)], 0, 0) is None


def test_a_paragraph_said_three_times_is_no_loop_and_said_four_times_is_one() -> None:
    paragraph = Random(5).sample(range(1000), 100)
    assert not is_looping(paragraph * 3)
    assert is_looping(paragraph * 4)


def test_thinking_that_is_opened_again_shares_the_one_budget() -> None:
    plan = plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(10, 0, 3), answer_tokens=60, wait="W"))
    tokens = plan.tokens
    a = tokens.tokenizer.encode("a", add_special_tokens=False)[0]
    opening, closing = tokens.reopen_id, tokens.trigger_id
    assert opening is not None
    assert closing is not None
    script = [a, a, closing, a, closing, a, closing, a, closing, a, opening, a, a, a, a]

    def sample(_: object) -> int:
        return script.pop(0) if script else 0

    generation = by_rows(plan, sample)
    assert generation.thinking_tokens <= 10
    assert [s.kind for s in generation.segments].count("open") == 1
    assert generation.was_cut_off


def test_thinking_cannot_be_opened_for_ever() -> None:
    plan = plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(4), answer_tokens=40))
    opening = plan.tokens.reopen_id
    assert opening is not None
    generation = by_rows(plan, lambda _: opening)
    assert generation.thinking_tokens <= 4
    assert sum(s.num_tokens for s in generation.segments) < 60


def test_a_stop_that_arrives_right_at_the_bound_is_still_a_stop() -> None:
    plan = plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(3, 0, 1), answer_tokens=8, wait="W"))
    a, stop = plan.tokens.tokenizer.encode("a</think>", add_special_tokens=False)

    def after(num: int):  # type: ignore[no-untyped-def]
        return lambda context: a if len(context) - len(plan.prompt_ids) < num else stop

    for drive in (by_rows, by_flow):
        assert drive(plan, after(3)).ending == "cut_off"
        late = drive(plan, after(2))
        assert (late.ending, late.num_waits, late.thinking_tokens) == ("closed", 0, 2)
        early = drive(plan, after(1))
        assert (early.num_waits, early.thinking_tokens, early.ending) == (1, 2, "closed")


def test_stop_strings_act_on_the_answer_only_and_are_not_part_of_it() -> None:
    plan = plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(4), answer_tokens=20, stop=("ba",)))
    a, b = plan.tokens.tokenizer.encode("ab", add_special_tokens=False)
    generation = by_rows(plan, lambda context: b if len(context) % 2 else a)
    assert "ba" in generation.thinking
    assert generation.answer_finish == "stop_string"
    assert "ba" not in generation.answer
    assert generation.answer in ("F:", "F:a")


@pytest.mark.parametrize("ending", ["closed", "cut_off"])
def test_a_given_thinking_of_any_length_is_answered_as_if_it_had_been_decoded(ending: str) -> None:
    for seed in range(200):
        whole = plan_of(
            SEVERAL, Request(question="q", budget=ThinkingBudget(30, 0, 3), answer_tokens=9, loop_guard=False)
        )
        sample = sampler(seed, whole, 0.1)
        generation = by_rows(whole, sample)
        thinking = tuple(s for s in generation.segments if s.kind in ("thinking", "wait"))
        if ending == "cut_off":
            length = Random(seed).randint(0, generation.thinking_tokens)
            direct = plan_of(SEVERAL, Request(question="q", budget=ThinkingBudget(length, 0, 3), answer_tokens=9))
            expected = by_rows(direct, sample)
            if not expected.was_cut_off or expected.num_waits != _waits_within(thinking, length):
                continue
        else:
            length, expected = generation.thinking_tokens, generation
            if generation.ending != "closed":
                continue
        prefix = Prefix(thinking, ending, num_tokens=length)  # type: ignore[arg-type]
        given = Request(question="q", budget=ThinkingBudget(30, 0, 3), answer_tokens=9, prefix=prefix)
        found = by_rows(plan_of(SEVERAL, given), sample)
        assert found.answer == expected.answer
        assert found.thinking_tokens == length
        assert found.ending == ending


def _waits_within(segments: tuple[Segment, ...], length: int) -> int:
    total, waits = 0, 0
    for s in segments:
        if total < length and s.kind == "wait":
            waits += 1
        total += s.num_tokens
    return waits


def test_going_on_from_a_prefix_equals_not_having_stopped_in_between() -> None:
    for seed in range(200):
        request = Request(question="q", budget=ThinkingBudget(40, 0, 4), answer_tokens=9, loop_guard=False)
        plan = plan_of(SEVERAL, request)
        sample = sampler(seed, plan, 0.1)
        whole = by_rows(plan, sample)
        thinking = tuple(s for s in whole.segments if s.kind in ("thinking", "wait"))
        ends = [0]
        for s in thinking:
            ends.append(ends[-1] + s.num_tokens)
        length = Random(seed).choice(ends)
        given = Request(
            question="q",
            budget=request.budget,
            answer_tokens=9,
            loop_guard=False,
            prefix=Prefix(thinking, num_tokens=length),
        )
        on = by_rows(plan_of(SEVERAL, given), sample)
        assert (on.thinking, on.answer, on.num_waits, on.ending) == (
            whole.thinking,
            whole.answer,
            whole.num_waits,
            whole.ending,
        )


def test_an_unlimited_maximum_is_the_room_there_is() -> None:
    for budget in (None, ThinkingBudget(UNLIMITED, 0, 2)):
        plan = plan_of(ONE_TOKEN, Request(question="q", budget=budget, answer_tokens=10), context=100)
        assert plan.budget.max_tokens == 100 - len(plan.prompt_ids) - 1 - 10
        assert plan.total_tokens == 100


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"budget": ThinkingBudget(UNLIMITED, 99)}, r"min_tokens is 99, and there is room for 87.*Give 87 or less"),
        ({"answer_tokens": 99}, r"answer_tokens is 99, .*room for 97.*Give 97 or fewer"),
        ({"answer_tokens": 2}, r"closing phrase 'F:' takes 2.*Give 3 or more"),
        ({"answer_tokens": 0}, r"answer_tokens is 0.*Give 1 or more"),
        ({"question": "q" * 200}, r"prompt is 201 tokens long and the context 100.*Shorten it"),
        ({"wait": ""}, r"the wait is empty.*request.wait"),
        ({"wait": ()}, r"the list of waits is empty"),
        ({"wait": ("W", "")}, r"the wait is empty"),
        ({"wait": "W</think>"}, r"'W</think>' contains a delimiter"),
        ({"closing_phrase": "<eos>"}, r"contains a delimiter.*request.closing_phrase"),
        ({"stop": ("",)}, r"a stop string is empty"),
        ({"temperature": -1.0}, r"temperature is -1"),
        ({"top_p": 0.0}, r"top_p is 0"),
        ({"top_k": -2}, r"top_k is -2"),
        (
            {"prefix": Prefix((Segment.of_ids("sampled", "thinking", "", (9,) * 20),))},
            r"prefix holds 20 thinking tokens, above",
        ),
        ({"prefix": Prefix((Segment.of_ids("sampled", "answer", "", (9,)),))}, r"a segment of kind 'answer'"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_its_repair(fields: dict, complaint: str) -> None:
    values = {"question": "q", "budget": ThinkingBudget(10), "answer_tokens": 10, "wait": "Wait"} | fields
    with pytest.raises(InputError, match=complaint):
        plan_of(ONE_TOKEN, Request(**values), context=100)


def test_a_wait_that_the_tokenizer_turns_into_nothing_is_refused() -> None:
    class Forgets(LetterTokenizer):
        def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
            return [] if text == "?" else super().encode(text)

    tokens = TokenFormat(ONE_TOKEN, Forgets(SPECIALS["one"]))
    with pytest.raises(InputError, match=r"turns the wait '\?' into nothing"):
        make_plan(Request(question="q", wait="?"), tokens, 1000)


def test_a_row_that_is_done_takes_no_token() -> None:
    row = TokenDriver(plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(0), answer_tokens=3)))
    row.start()
    row.push(9)
    assert row.is_done
    with pytest.raises(ValueError, match="takes no token"):
        row.push(9)


def test_a_server_that_returns_too_much_or_stops_without_a_reason_is_caught() -> None:
    for reply, complaint in ((Completed((9,) * 9), "at most 5"), (Completed((9, 9)), "nothing says why")):
        steps = drive_segments(plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(5), answer_tokens=9)))
        next(steps)
        with pytest.raises(ValueError, match=complaint):
            steps.send(reply)


def calls_within_s1kit(work: Callable[[], object]) -> int:
    """Python functions of the package that are called in it."""
    num, package = 0, str(Path(s1kit.__file__).parent)

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal num
        num += event == "call" and frame.f_code.co_filename.startswith(package)

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return num


def scripted(words: int, num_steps: int = 1) -> tuple[ScriptedEngine, Plan]:
    """An engine whose model thinks so many words in each step, and a request with room for all of them."""
    total = (words + 4) * num_steps + 1
    engine = ScriptedEngine({"one": [Step("one " * words, "1")] * num_steps}, context_tokens=total + 200)
    budget = ThinkingBudget(total, num_waits=num_steps - 1)
    return engine, engine.plan(Request(question="one", budget=budget, answer_tokens=16, loop_guard=False))


def test_streaming_a_quiet_token_adds_four_calls_to_what_an_engine_does_for_it_anyway() -> None:
    calls = []
    for is_streamed in (False, True):
        engine, plan = scripted(300)
        batch = engine.running_batch()
        batch.admit(plan, is_streamed)
        for _ in range(20):
            batch.step()

        def steps(batch: ScriptedBatch = batch) -> None:
            for _ in range(200):
                batch.step()

        calls.append(calls_within_s1kit(steps) / 200)
    not_streamed, streamed = calls
    assert streamed - not_streamed <= 4
    assert streamed <= 1.5 * not_streamed


def test_the_scripted_engine_does_no_more_for_a_word_after_a_hundred_waits_than_after_ten() -> None:
    calls = []
    for num_steps in (10, 100):
        engine, plan = scripted(4, num_steps)
        found: list[Generation] = []
        batch = engine.running_batch()
        batch.admit(plan)

        def run(batch: ScriptedBatch = batch, found: list[Generation] = found) -> None:
            while not batch.is_idle:
                found += [event.generation for event in batch.step() if event.generation]

        num = calls_within_s1kit(run)
        assert found[0].num_waits == num_steps - 1
        calls.append(num / found[0].thinking_tokens)
    assert calls[1] < 1.2 * calls[0]


def test_an_answer_that_a_server_cuts_before_its_first_token_leaves_the_closing_phrase_whole() -> None:
    plan = plan_of(ONE_TOKEN, Request(question="q", budget=ThinkingBudget(0), answer_tokens=9, stop=("b",)))
    steps = drive_segments(plan)
    next(steps)
    with pytest.raises(StopIteration) as done:
        steps.send(Completed((), stop_text="b"))
    generation = done.value.value
    assert (generation.answer_finish, generation.answer) == ("stop_string", "F:")
