"""The OpenAPI document, generated from the models that check the bodies, so that both always agree."""

from __future__ import annotations

from functools import cache
from typing import Any

from s1kit import __version__
from s1kit.serve.chat import ChatBody, CompletionBody
from s1kit.serve.counting import DetokenizeBody, TokenizeBody
from s1kit.serve.messages import CountBody, MessagesBody
from s1kit.serve.responses import ResponsesBody

_TURN = {"role": "user", "content": "What is 17 + 25?"}
_HISTORY = [_TURN, {"role": "assistant", "content": "42", "reasoning": "17 + 25 is 42"}, _TURN]

EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "ChatBody": {
        "a budget": {"messages": [_TURN], "thinking_token_budget": 16, "max_tokens": 64},
        "waits": {"messages": [_TURN], "num_waits": 2, "wait": ["Wait", "Hmm"], "max_tokens": 64, "temperature": 0.5},
        "exactly so many": {"messages": [_TURN], "min_thinking_tokens": 12, "max_thinking_tokens": 12, "seed": 1},
        "an effort, streamed": {
            "messages": [{"role": "developer", "content": "Be brief."}, *_HISTORY],
            "reasoning_effort": "low",
            "max_completion_tokens": 64,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        "no thinking": {"messages": [_TURN], "thinking": {"type": "disabled"}, "max_tokens": 32, "n": 2},
        "a begun answer": {
            "messages": [_TURN, {"role": "assistant", "content": "It is"}],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "max_tokens": 16,
            "stop": ["."],
        },
    },
    "CompletionBody": {
        "a text": {"prompt": "17 + 25 =", "max_tokens": 8},
        "thinking, streamed": {"prompt": ["1", "2"], "thinking_token_budget": 8, "max_tokens": 32, "stream": True},
    },
    "MessagesBody": {
        "a budget": {
            "max_tokens": 64,
            "messages": [_TURN],
            "system": "Be brief.",
            "thinking": {"type": "enabled", "budget_tokens": 16},
        },
        "an effort, streamed": {
            "max_tokens": 64,
            "messages": [_TURN],
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "low"},
            "stop_sequences": ["\n\n"],
            "stream": True,
        },
    },
    "CountBody": {"a chat": {"messages": [_TURN], "system": [{"type": "text", "text": "Be brief."}]}},
    "ResponsesBody": {
        "a text": {"input": "What is 17 + 25?", "reasoning": {"effort": "low", "summary": "auto"}},
        "items, streamed": {
            "instructions": "Be brief.",
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "1 + 1?"}]}],
            "max_output_tokens": 64,
            "store": False,
            "stream": True,
        },
    },
    "TokenizeBody": {"a text": {"prompt": "17 + 25"}, "a chat": {"messages": [_TURN]}},
    "DetokenizeBody": {"ids": {"tokens": [1, 2, 3]}},
}
"""By the name of the body, then by what the example shows."""


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field at fault."},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_USAGE = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details"],
}
_REPLY = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage", "s1kit"],
    "properties": {"choices": {"type": "array"}, "usage": _USAGE, "s1kit": {"type": "object"}},
}
_REFUSALS = {
    "400": "a field is wrong, unknown, or disagrees with another",
    "401": "a missing or wrong API key",
    "403": "a host name that this server does not answer to",
    "404": "a model that is not served",
    "413": "a body that is too large",
    "415": "a body that is not JSON by its content type",
    "429": "the server, or the one behind it, is full",
    "502": "the server behind this one is down, died or talks nonsense",
    "503": "the server is shutting down",
    "504": "the server behind this one is silent",
}


@cache
def document(models: tuple[str, ...] = ()) -> dict[str, Any]:
    """OpenAPI 3.1, served at `/openapi.json`. `models`: the names that requests may call the model by."""
    schemas: dict[str, Any] = {"Error": _ERROR, "Reply": _REPLY}
    bodies = (ChatBody, CompletionBody, MessagesBody, CountBody, ResponsesBody, TokenizeBody, DetokenizeBody)
    for body in bodies:
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        if models:
            schema["properties"]["model"] = {"enum": [*models, None], "description": "The model that is served."}
        schemas[body.__name__] = schema
    return {
        "openapi": "3.1.0",
        "info": {"title": "s1kit serve", "version": __version__},
        "paths": {
            "/v1/chat/completions": {"post": _post("ChatBody")},
            "/v1/completions": {"post": _post("CompletionBody")},
            "/v1/messages": {"post": _post("MessagesBody")},
            "/v1/messages/count_tokens": {"post": _post("CountBody")},
            "/v1/responses": {"post": _post("ResponsesBody")},
            "/v1/responses/input_tokens": {"post": _post("ResponsesBody")},
            "/tokenize": {"post": _post("TokenizeBody")},
            "/detokenize": {"post": _post("DetokenizeBody")},
            "/v1/requests/{id}/stop_thinking": {"post": _stop()},
            "/version": {"get": _get("the version of s1kit")},
            "/v1/models": {"get": _get("the model that is served, and its effort map")},
            "/health": {"get": _get("whether work can be done", "503")},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _post(body: str) -> dict[str, Any]:
    content = {
        "application/json": {
            "schema": {"type": "object"}
            if body not in ("ChatBody", "CompletionBody")
            else {"$ref": "#/components/schemas/Reply"}
        },
        "text/event-stream": {},
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    examples = {name: {"value": value} for name, value in EXAMPLES[body].items()}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}, "examples": examples}},
        },
        "responses": {
            "200": {"description": "the reply; events where stream is true", "content": content},
            **{status: {"description": why, "content": error} for status, why in _REFUSALS.items()},
        },
    }


def _stop() -> dict[str, Any]:
    found = {"200": {"description": "how many choices stop thinking", "content": {"application/json": {}}}}
    reasons = {"404": "no such request runs under this key", "409": "the request is answering already"}
    for status, why in ({s: _REFUSALS[s] for s in ("401", "403")} | reasons).items():
        found[status] = {"description": why, "content": {"application/json": {}}}
    name = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {"parameters": [name | {"description": "the id of the reply, or its x-request-id"}], "responses": found}


def _get(what: str, *others: str) -> dict[str, Any]:
    found = {"200": {"description": what, "content": {"application/json": {}}}}
    for status in ("401", "403", *others):
        found[status] = {"description": _REFUSALS.get(status, "not now"), "content": {"application/json": {}}}
    return {"responses": found}
