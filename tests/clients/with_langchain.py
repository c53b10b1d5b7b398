"""langchain-openai: ask, stream, structured output, and the Responses API."""

import sys

from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field


class Sum(BaseModel):
    """The numbers that are added, and their sum."""

    numbers: list[int] = Field(max_length=3)
    total: int


def main(url: str, model: str, has_tools: bool) -> None:
    chat = ChatOpenAI(model=model, base_url=url, api_key="none", extra_body={"thinking_token_budget": 20}, timeout=300)
    reply = chat.invoke("Tom has 3 apples and buys 4. How many has he?")
    assert reply.content
    assert reply.usage_metadata["output_token_details"]["reasoning"] <= 20, reply.usage_metadata
    chunks = list(chat.stream("2 + 2?", stream_usage=True))
    assert "".join(c.content for c in chunks)
    assert any(c.usage_metadata for c in chunks)
    effort = ChatOpenAI(model=model, base_url=url, api_key="none", reasoning_effort="low", timeout=300)
    assert effort.invoke([("system", "be brief"), ("human", "2 + 2?")]).content
    for method in ("json_schema", "function_calling") if has_tools else ("json_schema",):
        found = chat.with_structured_output(Sum, method=method).invoke("Add 2 and 3.")
        print(method, found)
        assert isinstance(found, Sum)
    if has_tools:
        found = chat.bind_tools([Sum], tool_choice="any").invoke("Add 2 and 3.")
        assert found.tool_calls[0]["name"] == "Sum", found
    responses = ChatOpenAI(
        model=model,
        base_url=url,
        api_key="none",
        use_responses_api=True,
        reasoning={"effort": "low", "summary": "auto"},
        timeout=300,
    )
    reply = responses.invoke("2 + 2?")
    kinds = [block["type"] for block in reply.content]
    assert kinds == ["reasoning", "text"], reply.content
    assert "".join(c.text for c in responses.stream("2 + 2?"))


main(sys.argv[1], sys.argv[2], len(sys.argv) > 3)
