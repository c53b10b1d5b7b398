"""litellm: its OpenAI-compatible and vLLM routes, streamed and whole, its Anthropic and Responses surfaces."""

import sys

import litellm

MESSAGES = [{"role": "user", "content": "Tom has 3 apples and buys 4. How many has he?"}]


def main(url: str, model: str) -> None:
    litellm.drop_params = False
    for route in ("openai/", "hosted_vllm/"):
        reply = litellm.completion(
            route + model, messages=MESSAGES, api_base=url, api_key="none", extra_body={"thinking_token_budget": 9}
        )
        assert reply.choices[0].message.content
        assert reply.choices[0].message.reasoning_content
        assert reply.usage.completion_tokens_details.reasoning_tokens <= 9
        chunks = list(
            litellm.completion(
                route + model,
                messages=MESSAGES,
                api_base=url,
                api_key="none",
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"thinking_token_budget": 9},
            )
        )
        thinking = "".join(getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in chunks if c.choices)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert thinking, chunks
        assert text, chunks
        assert any(getattr(c, "usage", None) for c in chunks)
    reply = litellm.completion(
        "hosted_vllm/" + model, messages=MESSAGES, api_base=url, api_key="none", reasoning_effort="low"
    )
    assert reply.choices[0].message.content
    reply = litellm.responses(model="openai/" + model, input="2 + 2?", api_base=url, api_key="none")
    assert reply.output, reply
    reply = litellm.completion(
        "anthropic/" + model,
        messages=MESSAGES,
        api_base=url.removesuffix("/v1"),
        api_key="none",
        max_tokens=1200,
        thinking={"type": "enabled", "budget_tokens": 1024},
        # It asks its table of models what a model can do, and knows only Anthropic's.
        allowed_openai_params=["thinking"],
    )
    assert reply.choices[0].message.content, reply
    assert reply.choices[0].message.reasoning_content, reply
    try:
        litellm.completion("openai/" + model, messages=MESSAGES, api_base=url, api_key="none", min_thinking_tokens=9**9)
    except litellm.BadRequestError as error:
        told = str(error)
    assert "min_thinking_tokens" in told, told


main(sys.argv[1], sys.argv[2])
