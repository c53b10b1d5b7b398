"""Anthropic's own client: thinking blocks, a budget kept to the token, streams, counts, errors."""

import sys

import anthropic

MESSAGES = [{"role": "user", "content": "Tom has 3 apples and buys 4. How many has he?"}]


def main(url: str, model: str) -> None:
    client = anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="none", max_retries=0)
    dial = {"model": model, "messages": MESSAGES, "max_tokens": 600, "extra_body": {"min_thinking_tokens": 8}}
    reply = client.messages.create(**dial, thinking={"type": "enabled", "budget_tokens": 9})
    assert [block.type for block in reply.content] == ["thinking", "text"], reply
    assert 8 <= reply.usage.output_tokens_details.thinking_tokens <= 9, reply.usage
    again = [*MESSAGES, {"role": "assistant", "content": reply.content}, {"role": "user", "content": "Sure?"}]
    assert client.messages.create(model=model, messages=again, max_tokens=300).content
    with client.messages.stream(**dial, thinking={"type": "enabled", "budget_tokens": 9}) as stream:
        text = "".join(stream.text_stream)
        assert text == stream.get_final_message().content[-1].text
    assert client.messages.count_tokens(model=model, messages=MESSAGES).input_tokens > 5
    try:
        client.messages.create(model="another", messages=MESSAGES, max_tokens=9)
    except anthropic.NotFoundError:
        return
    raise SystemExit("a model that is not served was answered for")


main(sys.argv[1], sys.argv[2])
