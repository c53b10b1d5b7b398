"""What holds for every request: a stream joined is the reply that was not streamed, and usage adds up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette")

from serving import Running, ScriptedServing, ask, joined, read_events, serving

from s1kit.engines.scripted import Step
from s1kit.serve.local import Local

STEPS = [
    Step("one and one is three .", "a b STOP c"),
    Step(" no , it is two .", "2"),
    Step(" well \n then", "é 😀 done"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    async def backend(_: AsyncExitStack) -> Local:
        return Local(ScriptedServing({"q": STEPS}), "scripted")

    with serving(backend) as running:
        yield running


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "thinking_token_budget": st.integers(-1, 40),
        "min_thinking_tokens": st.integers(0, 30),
        "num_waits": st.integers(0, 6),
        "wait": st.sampled_from(["Hmm", ["Wait", " But so"]]),
        "answer_tokens": st.integers(1, 12),
        "max_tokens": st.integers(1, 80),
        "n": st.integers(1, 3),
        "stop": st.sampled_from(["STOP", ["b ", "2"], "done"]),
        "closing_phrase": st.sampled_from(["", "So:", "Final Answer:"]),
        "include_reasoning": st.booleans(),
        "reasoning_effort": st.sampled_from(["none", "minimal", "high"]),
        "seed": st.integers(0, 5),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=FIELDS)
def test_a_stream_joined_is_the_whole_reply_and_usage_adds_up(server: Running, fields: dict[str, Any]) -> None:
    whole = ask(server.url, "q", **fields)
    streamed = ask(server.url, "q", stream=True, stream_options={"include_usage": True}, **fields)
    assert whole.status_code == streamed.status_code
    if whole.status_code != 200:
        assert whole.status_code == 400
        assert whole.json() == streamed.json()
        assert whole.json()["error"]["param"]
        return
    reply, events = whole.json(), read_events(streamed.text)
    pieces = joined(events)
    for choice in reply["choices"]:
        piece = pieces[choice["index"]]
        assert piece["thinking"] == (choice["message"]["reasoning"] or "")
        assert piece["answer"] == choice["message"]["content"]
        assert piece["finish"] == choice["finish_reason"]
        assert piece["s1kit"] == choice["s1kit"]
    usage = reply["usage"]
    assert events[-1]["usage"] == usage
    assert usage["completion_tokens"] == sum(piece["tokens"] for piece in pieces.values())
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    per_choice = usage["completion_tokens"] / len(reply["choices"])
    assert per_choice <= fields.get("max_tokens", 1 << 30)
    thinking = usage["completion_tokens_details"]["reasoning_tokens"] / len(reply["choices"])
    if fields.get("thinking_token_budget", -1) >= 0:
        assert thinking <= fields["thinking_token_budget"]
    assert thinking >= fields.get("min_thinking_tokens", 0)
