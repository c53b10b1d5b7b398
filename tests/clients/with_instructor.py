"""instructor: replies as pydantic objects, by JSON schema, by JSON mode and by tool call, whole and in parts."""

import sys
from typing import Literal

import instructor
import openai
from pydantic import BaseModel, ConfigDict, Field


class Animal(BaseModel):
    # A model that knows no words would go on with fields of its own.
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=12)
    legs: int = Field(ge=0, le=100)
    size: Literal["small", "large"]
    colours: list[Literal["black", "white", "red"]] = Field(max_length=3)


MESSAGES = [{"role": "user", "content": "A cat is a small animal with four legs. Describe the cat."}]
DIAL = {"thinking_token_budget": 24, "num_waits": 1}


def main(url: str, model: str, has_tools: bool) -> None:
    plain = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300)
    modes = [instructor.Mode.JSON_SCHEMA]
    if has_tools:
        modes += [instructor.Mode.TOOLS, instructor.Mode.JSON]
    for mode in modes:
        animal, raw = instructor.from_openai(plain, mode=mode).chat.completions.create_with_completion(
            model=model, messages=MESSAGES, response_model=Animal, max_retries=0, max_tokens=400, extra_body=DIAL
        )
        assert raw.usage.completion_tokens_details.reasoning_tokens <= 24, raw.usage
        print(mode, animal.model_dump())
    client = instructor.from_openai(plain, mode=instructor.Mode.JSON_SCHEMA)
    parts = list(
        client.chat.completions.create_partial(
            model=model, messages=MESSAGES, response_model=Animal, max_retries=0, max_tokens=400, extra_body=DIAL
        )
    )
    print("partial", len(parts), parts[-1].model_dump())
    assert parts[-1].legs is not None


main(sys.argv[1], sys.argv[2], len(sys.argv) > 3)
