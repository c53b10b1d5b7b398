"""What a reply costs: tiers, aliases, dated snapshots, hours, and what providers report themselves."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from s1kit.errors import InputError
from s1kit.journal import Journal
from s1kit.providers.catalog import find_model
from s1kit.providers.client import open_client
from s1kit.providers.money import FREE, Price, price_of, published_price
from s1kit.providers.sync import chat_many
from s1kit.providers.wires.openai import OpenAIWire
from s1kit.providers.wires.replies import read_reply
from s1kit.records import Usage
from tests.servers.provider_server import Fault, ProviderServer

pytestmark = pytest.mark.usefixtures("keys")


def cost(reference: str, input_tokens: int, output_tokens: int, cached: int = 0) -> float:
    price = price_of(find_model(reference))
    assert price is not None
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, cached_input_tokens=cached)
    return price.cost(usage)


def test_a_long_input_makes_all_of_its_request_dearer() -> None:
    # ai.google.dev/gemini-api/docs/pricing: 1.25 and 10 up to 200,000 tokens of input, 2.50 and 15 beyond.
    assert cost("chat:gemini/gemini-2.5-pro", 200_000, 10_000) == pytest.approx(0.25 + 0.10)
    assert cost("chat:gemini/gemini-2.5-pro", 250_000, 10_000) == pytest.approx(0.625 + 0.15)
    assert cost("chat:gemini/gemini-2.5-pro", 250_000, 0, cached=250_000) == pytest.approx(0.0625)


@pytest.mark.parametrize(
    ("dated", "plain"),
    [
        ("chat:openai/o3-2025-04-16", "chat:openai/o3"),
        ("chat:openai/gpt-5-2025-08-07", "chat:openai/gpt-5"),
        ("chat:anthropic/claude-sonnet-4-5-20250929", "chat:anthropic/claude-sonnet-4-5"),
        ("chat:anthropic/claude-3-7-sonnet-20250219", "chat:anthropic/claude-3-7-sonnet-latest"),
    ],
)
def test_a_dated_snapshot_costs_what_its_model_costs(dated: str, plain: str) -> None:
    assert cost(dated, 1000, 1000) == cost(plain, 1000, 1000) > 0


@pytest.mark.parametrize("name", ["o3", "o4-mini", "gpt-5", "o1", "o3-mini"])
def test_models_that_people_ask_are_priced(name: str) -> None:
    assert cost(f"chat:openai/{name}", 1000, 1000) > 0
    assert cost("chat:openrouter/deepseek/deepseek-r1", 1000, 1000) > 0
    assert cost("chat:gemini/gemini-3-pro-preview", 1000, 1000) > 0


def test_the_dearest_hour_of_the_day_counts() -> None:
    model = find_model("chat:deepseek/deepseek-v4-pro")
    noon = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)
    night = noon.replace(hour=20)
    assert published_price(model, noon) == published_price(model, night)
    assert price_of(model).output == pytest.approx(3.96)  # type: ignore[union-attr]


def test_a_server_of_one_s_own_is_free_and_a_provider_s_address_is_not() -> None:
    assert price_of(find_model("chat:http://localhost:8000/v1#m")) == FREE
    assert cost("chat:https://api.mistral.ai/v1#magistral-medium-latest", 1000, 1000) > 0
    with pytest.raises(InputError, match=r"price of .* is not in the table"):
        price_of(find_model("chat:https://api.mistral.ai/v1#no-such-model"))
    assert price_of(find_model("chat:openrouter/deepseek/deepseek-r1-0528:free")) == FREE


def test_a_table_of_one_s_own_goes_first_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        '[[price]]\nprovider = "openai"\nmodel = "o3*"\ninput = 1\noutput = 2\n'
        "tiers = [{ above = 100, input = 10, output = 20 }]\n"
    )
    price = price_of(find_model("chat:openai/o3"), prices_path=str(path))
    assert price is not None
    assert price.cost(Usage(input_tokens=101, output_tokens=1)) == pytest.approx((1010 + 20) / 1e6)
    path.write_text("[[price]]\ninput = -1\noutput = 2\n")
    with pytest.raises(InputError, match="price table cannot be read"):
        price_of(find_model("chat:openai/o3"), prices_path=str(path))


def openrouter_usage(**fields: Any) -> Fault:
    return Fault(change=lambda reply: reply | {"usage": reply["usage"] | fields})


@pytest.mark.parametrize(
    ("fields", "dollars"),
    [
        ({"cost": 0.25}, 0.25),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 0.21),
    ],
)
@pytest.mark.parametrize("price", [{"input": 1.0, "output": 1.0}, "unknown"])
def test_the_cost_that_openrouter_reports_is_what_counts(
    server: ProviderServer, journal: Journal, fields: dict[str, Any], dollars: float, price: Any
) -> None:
    server.faults = lambda number, question: openrouter_usage(**fields)
    base_url = f"{server.root}/openrouter/v1"
    client = open_client("chat:openrouter/qwen/qwq-32b", journal, base_url=base_url, price=price, run="r")
    (reply,) = chat_many(client, [[{"role": "user", "content": "q"}]], journal)
    assert reply.cost_usd == pytest.approx(dollars)
    assert journal.ledger.total("r") == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        # xAI leaves reasoning out of the completion and in the total; others have no total.
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}, 105),
        ({"prompt_tokens": 10, "completion_tokens": 5, "reasoning_tokens": 100}, 105),
        ({"prompt_tokens": 10, "completion_tokens": 105, "reasoning_tokens": 100, "total_tokens": 115}, 105),
        ({"prompt_tokens": 10, "completion_tokens": 105, "reasoning_tokens": 100}, 105),
    ],
)
def test_thinking_is_paid_for_once_wherever_it_is_counted(usage: dict[str, int], output: int) -> None:
    body = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}], "usage": usage}
    assert read_reply(OpenAIWire("compatible"), body).usage.output_tokens == output


def test_a_price_has_no_negative_part() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Price(input=-1, output=1)


def test_an_empty_reply_is_asked_for_again_and_kept_when_it_stays_so(server: ProviderServer, journal: Journal) -> None:
    def nothing(reply: dict[str, Any]) -> dict[str, Any]:
        choice = {**reply["choices"][0], "message": {"role": "assistant", "content": ""}}
        return reply | {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}}

    asked: list[str] = []

    def faults(number: int, question: str) -> Fault | None:
        asked.append(question)
        is_empty = question == "always" or asked.count(question) == 1
        return Fault(change=nothing, whole=True) if is_empty else None

    server.faults = faults
    client = open_client(f"chat:{server.compatible}#m", journal)
    once, always = chat_many(client, [[{"role": "user", "content": text}] for text in ("once", "always")], journal)
    assert once.finish_reason == "stop"
    assert always.finish_reason == "empty"
    assert sorted(asked) == ["always"] * 3 + ["once"] * 2
    assert {entry.finish_reason for entry in journal.entries()} == {"stop", "empty"}
