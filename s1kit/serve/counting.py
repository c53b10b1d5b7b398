"""`/tokenize`, `/detokenize` and the counts of Anthropic and OpenAI: a prompt as the model's own tokens."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Self

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from s1kit.serve.bodies import Body, read_as, read_as_chat
from s1kit.serve.chat import ChatBody
from s1kit.serve.fields import TemplateSwitches, TokenId, Wire
from s1kit.serve.http import check_media, read_body
from s1kit.serve.messages import CountBody
from s1kit.serve.prompts import chat_ids, text_ids
from s1kit.serve.refusals import Refusal, renamed
from s1kit.serve.responses import ResponsesBody
from s1kit.serve.state import Server, check_model


class TokenizeBody(Wire):
    """The body of `POST /tokenize`: a text, or a chat that the template renders."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, object]] | None = None
    tools: list[dict[str, object]] | None = None
    """Shown to the model beside `messages`."""
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    add_special_tokens: bool | None = None
    """True: with what the tokenizer puts before and after a text. A chat has what its template writes."""
    chat_template_kwargs: TemplateSwitches | None = None
    """A budget changes nothing of the prompt; which earlier thinking is shown does."""
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give prompt or messages, one of them")
        if self.prompt is not None and (self.tools or self.continue_final_message):
            raise ValueError("tools and continue_final_message belong to messages, not to a prompt")
        return self


class DetokenizeBody(Wire):
    """The body of `POST /detokenize`."""

    model: str | None = None
    tokens: Annotated[list[TokenId], Field(max_length=1 << 20)]


async def tokenize(server: Server, request: Request) -> Response:
    """The ids of a text or of a rendered chat. Raises Refusal."""
    body = await _read(server, request, TokenizeBody)
    check_model(server, body.model)
    if body.prompt is not None:
        ids = await asyncio.to_thread(text_ids, server.backend, body.prompt, bool(body.add_special_tokens))
    else:
        kept = {"messages", "tools", "continue_final_message", "add_generation_prompt", "chat_template_kwargs"}
        chat, _ = read_as(ChatBody, json.dumps(body.model_dump(include=kept, exclude_none=True)).encode())
        ids = await asyncio.to_thread(chat_ids, chat, server.backend)
    found = {"tokens": ids, "count": len(ids), "max_model_len": server.backend.context_tokens}
    if body.return_token_strs:
        found["token_strs"] = [server.backend.tokens.decode([one]) for one in ids]
    return JSONResponse(found)


async def detokenize(server: Server, request: Request) -> Response:
    """The text of ids. Raises Refusal."""
    body = await _read(server, request, DetokenizeBody)
    check_model(server, body.model)
    tokens = server.backend.tokens
    if body.tokens and not tokens.knows(max(body.tokens)):
        what = f"tokens holds the id {max(body.tokens)}; the largest is {tokens.num_ids - 1}."
        raise Refusal(400, what, param="tokens", code="invalid_value")
    return JSONResponse({"prompt": await asyncio.to_thread(tokens.decode, body.tokens)})


async def count_tokens(server: Server, request: Request) -> Response:
    """Anthropic's count of a prompt. Raises Refusal."""
    return JSONResponse({"input_tokens": await _count(server, request, CountBody)})


async def count_input_tokens(server: Server, request: Request) -> Response:
    """OpenAI's count of a response's prompt. Raises Refusal."""
    number = await _count(server, request, ResponsesBody)
    return JSONResponse({"object": "response.input_tokens", "input_tokens": number})


async def _count(server: Server, request: Request, kind: type[CountBody] | type[ResponsesBody]) -> int:
    check_media(request.scope)
    raw = await read_body(request.scope, request.receive, server.limits.max_body_bytes)
    chat, given, _ = read_as_chat(kind, raw, server.limits.is_lenient)
    check_model(server, chat.model)
    try:
        return len(await asyncio.to_thread(chat_ids, chat, server.backend))
    except Refusal as refusal:
        raise renamed(refusal, given.chat_names) from refusal


async def _read(server: Server, request: Request, kind: type[Body]) -> Body:
    check_media(request.scope)
    raw = await read_body(request.scope, request.receive, server.limits.max_body_bytes)
    return read_as(kind, raw, server.limits.is_lenient)[0]
