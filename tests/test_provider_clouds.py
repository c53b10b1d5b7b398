"""Azure, Vertex AI and Bedrock: their own libraries log in, each request is signed for one origin, nothing shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s1kit.cli.references import check_chat
from s1kit.errors import InputError, MissingExtra
from s1kit.journal import Journal
from s1kit.providers.catalog import find_model
from s1kit.providers.chat import ChatRequest, Parameters, Problem, Reply, Stopped
from s1kit.providers.client import Client, open_client
from s1kit.providers.credentials import credentials_of
from s1kit.providers.money import published_price
from s1kit.providers.terms import terms_of
from s1kit.providers.wires.bedrock import BedrockWire, BinaryEvents
from s1kit.providers.wires.replies import read_reply
from tests.servers.cloud_server import (
    ACCESS_KEY,
    API_KEY,
    IDENTITY_HEADER,
    SECRET_KEY,
    SESSION_TOKEN,
    CloudServer,
    binary_event,
    converse_events,
    conversed,
)
from tests.servers.provider_server import Fault, answer_of, fail_first, thinking_of

QUESTION = "What is 2 + 2?"
VARIABLES = (
    *("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"),
    *("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"),
    *("GOOGLE_CLOUD_LOCATION", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "HTTPS_PROXY", "HTTP_PROXY"),
)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[CloudServer]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no log-in of this machine
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 0.02)
    with CloudServer() as running:
        yield running


def log_in_to_azure(server: CloudServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service that runs there is logged in: by the identity that it was given."""
    pytest.importorskip("azure.identity")
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.root}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")


def log_in_to_google(server: CloudServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the file of a service account, whose assertions the server verifies."""
    pytest.importorskip("google.auth")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    server.public_key = private.public_key()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "p1",
        "private_key_id": "k1",
        "private_key": pem.decode(),
        "client_email": "teacher@p1.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{server.root}/google/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))


def log_in_to_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("botocore")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")


def client_of(reference: str, journal: Journal, url: str, **options: Any) -> Client:
    return open_client(reference, journal, base_url=url, **{"price": "free", **options})


def ask(client: Client, *questions: str) -> list[Reply]:
    async def run() -> list[Reply]:
        async with client:
            return await asyncio.gather(*(client.chat([{"role": "user", "content": q}]) for q in questions))

    return asyncio.run(run())


def vertex_url(server: CloudServer) -> str:
    return f"{server.root}/v1/projects/p1/locations/global"


def assert_hidden(journal: Journal, *secrets: str) -> None:
    journal.flush()
    kept = b"".join(path.read_bytes() for path in journal.path.parent.glob("journal.sqlite*"))
    for secret in secrets:
        assert secret.encode() not in kept


# ---- Azure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_azure_takes_a_key_in_its_own_header(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", API_KEY)
    (reply,) = ask(client_of("chat:azure/my-o3", journal, f"{cloud.root}/azure", stream=stream), QUESTION)
    assert reply.answer == answer_of(QUESTION)
    assert cloud.paths == ["/azure/openai/v1/chat/completions"]
    assert_hidden(journal, API_KEY)


def test_azure_s_version_names_the_deployment_in_the_address(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", API_KEY)
    url = f"{cloud.root}/azure?api-version=2024-10-21"
    ask(client_of("chat:azure/my-o3", journal, url), QUESTION)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", f"{cloud.root}/azure/")
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-01-01-preview")
    ask(client_of("chat:azure/my-o4", journal, ""), QUESTION)
    start = "/azure/openai/deployments"
    assert cloud.paths == [
        f"{start}/my-o3/chat/completions?api-version=2024-10-21",
        f"{start}/my-o4/chat/completions?api-version=2025-01-01-preview",
    ]


def test_azure_without_a_key_logs_in_once_and_its_token_shows_nowhere(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_to_azure(cloud, monkeypatch)
    client = client_of("chat:azure/my-o3", journal, f"{cloud.root}/azure")
    replies = ask(client, *[f"{n} + {n}?" for n in range(20)])
    assert {reply.finish_reason for reply in replies} == {"stop"}
    assert cloud.logins == {"azure": 1}
    (token,) = cloud.tokens
    assert_hidden(journal, token)
    assert token not in repr(vars(client)) + repr(vars(client.http))


def test_a_token_that_expires_soon_is_renewed_before_the_next_request(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_to_azure(cloud, monkeypatch)
    cloud.token_seconds = 200  # less than what a token must still last
    client = client_of("chat:azure/my-o3", journal, f"{cloud.root}/azure")
    for question in ("a", "b", "c"):
        ask(client, question)
    assert cloud.logins["azure"] == 3


def test_a_token_that_the_server_quotes_is_hidden(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_to_azure(cloud, monkeypatch)
    cloud.tokens = type(
        "Forgetful", (dict,), {"get": lambda self, key, default="": default}
    )()  # every token is refused
    with pytest.raises(Stopped) as caught:
        ask(client_of("chat:azure/my-o3", journal, f"{cloud.root}/azure"), QUESTION)
    (token,) = cloud.tokens
    assert token not in str(caught.value) + repr(caught.value.__cause__)
    assert "***" in str(caught.value)
    assert_hidden(journal, token)


def test_without_any_log_in_the_run_stops_at_once_and_says_what_to_do(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_to_azure(cloud, monkeypatch)
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(Stopped, match=r"no log-in of Azure is found .*az login"):
        ask(client_of("chat:azure/my-o3", journal, f"{cloud.root}/azure"), QUESTION)
    assert cloud.num_requests == 0


# ---- Vertex AI ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-pro", "publishers/google/models/gemini-2.5-pro:"),
        ("claude-opus-4-6", "publishers/anthropic/models/claude-opus-4-6:"),
        ("deepseek-ai/deepseek-r1-0528-maas", "endpoints/openapi/chat/completions"),
    ],
)
def test_vertex_serves_gemini_claude_and_open_models_to_a_service_account(
    cloud: CloudServer,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    model: str,
    path: str,
    stream: bool,
) -> None:
    log_in_to_google(cloud, monkeypatch, tmp_path)
    client = client_of(f"chat:vertex/{model}", journal, vertex_url(cloud), stream=stream)
    replies = ask(client, QUESTION, "another")
    assert (replies[0].thinking, replies[0].answer) == (thinking_of(QUESTION), answer_of(QUESTION))
    assert cloud.logins == {"google": 1}
    assert all(asked.startswith(f"/v1/projects/p1/locations/global/{path}") for asked in cloud.paths)
    assert cloud.num_streamed == (2 if stream else 0)
    assert_hidden(journal, *cloud.tokens)


def test_vertex_s_address_is_made_of_project_and_location(monkeypatch: pytest.MonkeyPatch, cloud: CloudServer) -> None:
    with pytest.raises(InputError, match="GOOGLE_CLOUD_PROJECT is not set"):
        find_model("chat:vertex/gemini-2.5-pro")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p1")
    assert find_model("chat:vertex/x").base_url == "https://aiplatform.googleapis.com/v1/projects/p1/locations/global"
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "europe-west4")
    url = "https://europe-west4-aiplatform.googleapis.com/v1/projects/p1/locations/europe-west4"
    assert find_model("chat:vertex/x").base_url == url


def test_without_a_log_in_vertex_stops_the_run(cloud: CloudServer, journal: Journal) -> None:
    pytest.importorskip("google.auth")
    with pytest.raises(Stopped, match="gcloud auth application-default login"):
        ask(client_of("chat:vertex/gemini-2.5-pro", journal, vertex_url(cloud)), QUESTION)


# ---- Bedrock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["us.anthropic.claude-opus-4-6-v1", "us.deepseek.r1-v1:0", "openai.gpt-oss-120b-1:0"])
def test_bedrock_s_requests_are_signed_whatever_the_model_s_name(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch, model: str, stream: bool
) -> None:
    log_in_to_aws(monkeypatch)
    client = client_of(f"chat:bedrock/{model}", journal, cloud.root, stream=stream)
    odd = "Wie heißt 数学?"
    replies = ask(client, QUESTION, odd)
    assert [(r.thinking, r.answer) for r in replies] == [(thinking_of(q), answer_of(q)) for q in (QUESTION, odd)]
    assert replies[0].usage.output_tokens == len((thinking_of(QUESTION) + " " + answer_of(QUESTION)).split())
    assert cloud.num_streamed == (2 if stream else 0)
    assert_hidden(journal, SECRET_KEY, SESSION_TOKEN)


def test_an_arn_is_one_segment_of_the_path(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_to_aws(monkeypatch)
    arn = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-opus-4-6-v1"
    ask(client_of(f"chat:bedrock/{arn}", journal, cloud.root, stream=False), QUESTION)
    (path,) = cloud.paths
    assert path.count("/") == 3
    assert "%2F" in path


def test_a_wrong_secret_stops_the_run_and_is_not_shown(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_to_aws(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-0123456789")
    client = client_of("chat:bedrock/us.deepseek.r1-v1:0", journal, cloud.root)
    with pytest.raises(Stopped, match="signature we calculated does not match") as caught:
        ask(client, QUESTION)
    assert "wrong-secret" not in str(caught.value) + repr(vars(client)) + repr(vars(client.http))


def test_without_an_account_of_aws_the_run_stops(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("botocore")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with pytest.raises(Stopped, match="no account of AWS is found"):
        ask(client_of("chat:bedrock/x", journal, cloud.root), QUESTION)
    assert cloud.num_requests == 0


def test_the_official_client_accepts_the_server_and_what_we_send(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_to_aws(monkeypatch)
    from botocore.session import Session
    from botocore.validate import ParamValidator

    session = Session()
    client = session.create_client("bedrock-runtime", endpoint_url=cloud.root, region_name="eu-central-1")
    asked = {"messages": [{"role": "user", "content": [{"text": QUESTION}]}], "inferenceConfig": {"maxTokens": 9}}
    reply = client.converse(modelId="us.deepseek.r1-v1:0", **asked)
    assert reply["output"]["message"]["content"][-1]["text"] == answer_of(QUESTION)
    stream = client.converse_stream(modelId="us.deepseek.r1-v1:0", **asked)["stream"]
    texts = [event["contentBlockDelta"]["delta"].get("text", "") for event in stream if "contentBlockDelta" in event]
    assert "".join(texts) == answer_of(QUESTION)
    messages = (
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
    )
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    parameters = Parameters(temperature=0.5, top_p=0.9, thinking_budget=2048)
    request = ChatRequest("bedrock", "us.anthropic.claude-opus-4-6-v1", messages, parameters, 0, (tool,))
    body = BedrockWire().call(request).body
    shape = session.get_service_model("bedrock-runtime").operation_model("Converse").input_shape
    report = ParamValidator().validate({"modelId": "m", **body}, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (429, "Too many tokens, please wait before trying again.", "rate"),
        (503, "Service unavailable", "server"),
        (424, "The model failed", "server"),
    ],
)
def test_bedrock_s_errors_are_judged(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch, status: int, text: str, kind: str
) -> None:
    log_in_to_aws(monkeypatch)
    cloud.faults = fail_first(1, Fault(status=status, body=text))
    client = client_of("chat:bedrock/us.deepseek.r1-v1:0", journal, cloud.root)
    assert ask(client, QUESTION)[0].answer == answer_of(QUESTION)
    assert client.tally.problems == {kind: 1}


def test_a_binary_stream_that_is_cut_is_asked_again_and_then_kept_as_a_part(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_to_aws(monkeypatch)
    cloud.cut_streams = 1
    (reply,) = ask(client_of("chat:bedrock/us.deepseek.r1-v1:0", journal, cloud.root), QUESTION)
    assert (reply.finish_reason, reply.answer) == ("stop", answer_of(QUESTION))
    cloud.cut_streams = 99
    (reply,) = ask(client_of("chat:bedrock/us.deepseek.r1-v1:0", journal, cloud.root), "another")
    assert reply.finish_reason == "cut"
    assert thinking_of("another").startswith(reply.thinking.strip())


# ---- the binary stream by itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_binary_stream_is_the_same_however_its_bytes_arrive(size: int) -> None:
    assembler = BedrockWire().assembler()
    pytest.importorskip("botocore")
    events = BinaryEvents(assembler)
    data = b"".join(converse_events(conversed(QUESTION)))
    for start in range(0, len(data), size):
        events.feed(data[start : start + size])
    assert assembler.is_whole
    reply = read_reply(BedrockWire(), assembler.body())
    assert (reply.thinking, reply.answer, reply.finish_reason) == (thinking_of(QUESTION), answer_of(QUESTION), "stop")


def test_damaged_bytes_and_exceptions_in_a_binary_stream_raise_nothing() -> None:
    pytest.importorskip("botocore")
    data = bytearray(b"".join(converse_events(conversed(QUESTION))))
    data[len(data) // 2] ^= 255
    assembler = BedrockWire().assembler()
    events = BinaryEvents(assembler)
    events.feed(bytes(data))
    assert not assembler.is_whole
    assembler = BedrockWire().assembler()
    events = BinaryEvents(assembler)
    events.feed(binary_event("throttlingException", {"message": "slow down"}, "exception"))
    assert assembler.body()["error"] == {"code": "throttlingException", "message": "slow down"}


def test_a_streamed_call_of_a_tool_is_put_together() -> None:
    assembler = BedrockWire().assembler()
    start = {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "c1", "name": "f"}}}
    assembler.add({"contentBlockStart": start})
    for piece in ('{"a"', ": 1}"):
        assembler.add({"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"toolUse": {"input": piece}}}})
    assembler.add({"messageStop": {"stopReason": "tool_use"}})
    reply = read_reply(BedrockWire(), assembler.body())
    assert reply.tool_calls == ({"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},)
    assert reply.finish_reason == "stop"


# ---- before anything is asked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "module", "extra"),
    [
        ("chat:azure/x", "azure.identity", "azure"),
        ("chat:vertex/gemini-2.5-pro", "google.auth", "vertex"),
        ("chat:bedrock/x", "botocore", "bedrock"),
    ],
)
def test_a_missing_extra_is_one_sentence_that_names_it(
    cloud: CloudServer, monkeypatch: pytest.MonkeyPatch, reference: str, module: str, extra: str
) -> None:
    from importlib.util import find_spec

    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setattr(
        "s1kit.providers.credentials.find_spec", lambda name: None if name == module else find_spec(name)
    )
    with pytest.raises(MissingExtra, match=rf"s1kit\[{extra}\]"):
        check_chat(reference, "distill.teacher", base_url=cloud.root, price="free")


@pytest.mark.parametrize(
    ("reference", "variable"),
    [
        ("chat:azure/x", "AZURE_OPENAI_ENDPOINT"),
        ("chat:vertex/x", "GOOGLE_CLOUD_PROJECT"),
        ("chat:bedrock/x", "AWS_REGION"),
    ],
)
def test_a_cloud_without_an_address_says_which_variable_names_it(
    cloud: CloudServer, reference: str, variable: str
) -> None:
    with pytest.raises(InputError, match=f"{variable} is not set"):
        find_model(reference)


def test_the_region_is_the_one_in_the_address(cloud: CloudServer) -> None:
    pytest.importorskip("botocore")
    model = find_model("chat:bedrock/x", "https://bedrock-runtime.us-west-2.amazonaws.com")
    credentials = credentials_of(model, has_key=False)
    assert vars(credentials)["_region"] == "us-west-2"


def test_a_signature_is_made_for_the_base_url_s_origin_only(
    cloud: CloudServer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_to_aws(monkeypatch)
    signed: list[str] = []
    monkeypatch.setattr(
        "s1kit.providers.credentials.AwsCredentials._sign", lambda self, method, url, body: signed.append(url) or {}
    )
    client = client_of("chat:bedrock/x", journal, cloud.root)

    async def run() -> None:
        async with client:
            await client.http.get("https://elsewhere.example/results")

    with pytest.raises(Problem, match="points to another host"):
        asyncio.run(run())
    assert signed == []


def test_prices_and_terms_of_a_cloud_s_models_are_found(monkeypatch: pytest.MonkeyPatch, cloud: CloudServer) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    price = published_price(find_model("chat:vertex/gemini-2.5-pro"))
    assert price is not None
    assert price.output == 10.0
    assert published_price(find_model("chat:bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0")) is not None
    assert terms_of("chat:vertex/gemini-2.5-pro").terms == "forbids"
    assert terms_of("chat:vertex/deepseek-ai/deepseek-r1-0528-maas").terms == "permits"
    assert terms_of("chat:vertex/claude-opus-4-6").terms == terms_of("chat:anthropic/claude-opus-4-6").terms
    assert terms_of("chat:bedrock/us.anthropic.claude-opus-4-6-v1").terms == "forbids"
    assert terms_of("chat:bedrock/us.deepseek.r1-v1:0").terms == "permits"
    assert terms_of("chat:bedrock/openai.gpt-oss-120b-1:0").terms == "permits"
    assert terms_of("chat:azure/gpt-5").terms == "forbids"
