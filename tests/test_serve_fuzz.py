"""Bodies made from the served OpenAPI document, and bodies that break it: never a 500, never a hang."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette")
pytest.importorskip("schemathesis")

import schemathesis
from serving import CLIENT, Running, ScriptedServing, ask, serving

from s1kit.serve.chat import ChatBody
from s1kit.serve.local import Local
from s1kit.serve.openapi import document

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    async def backend(_: AsyncExitStack) -> Local:
        # A small context keeps the longest replies short.
        return Local(ScriptedServing({}, context_tokens=512), "scripted")

    with serving(backend) as running:
        yield running


schema = schemathesis.openapi.from_dict(document())


def check(status: int, text: str) -> None:
    assert status in (200, 400, 404, 405, 413, 415), text
    if status != 200:
        error = json.loads(text)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]


@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path, methods in document()["paths"].items() for method in methods]
)
def test_no_body_that_the_document_allows_breaks_the_server(path: str, method: str, server: Running) -> None:
    """`make test-schema` also tries the edges of every field, for ten minutes."""

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=schema[path][method].as_strategy())
    def each(case: Any) -> None:
        reply = case.call(base_url=server.url, timeout=20)
        check(reply.status_code, reply.text)

    each()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    fields=st.dictionaries(st.sampled_from(sorted(ChatBody.model_fields)) | st.text(max_size=12), JSON, max_size=4),
)
def test_no_value_in_any_field_breaks_the_server(server: Running, fields: dict[str, Any]) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "x"}]} | fields)
    reply = CLIENT.post(
        server.url + "/v1/chat/completions", content=body.encode(), headers={"content-type": "application/json"}
    )
    check(reply.status_code, reply.text)
    unknown = {name for name in fields if fields[name] is not None} - set(ChatBody.model_fields)
    assert not unknown or reply.status_code == 400


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=60))
def test_no_bytes_break_the_server(server: Running, body: bytes) -> None:
    reply = CLIENT.post(server.url + "/v1/completions", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    check(reply.status_code, reply.text)
    assert ask(server.url).status_code == 200
