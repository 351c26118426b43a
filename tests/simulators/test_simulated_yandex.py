"""Yandex AI Studio as simulated: both surfaces, the login, operations, quotas and error bodies."""

import asyncio
import base64
import json
import re
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.simulators.conftest import Vendors

from xrouter.core.clock import SystemClock
from xrouter.simulators.yandex_login import AUDIENCE, FOLDER

KEY = {"Authorization": "Api-Key AQVNtest"}
PRO, QWEN = f"gpt://{FOLDER}/yandexgpt/latest", f"gpt://{FOLDER}/qwen3-235b-a22b-fp8/latest"
CHAT, NATIVE = "/yandex/v1/chat/completions", "/yandex/foundationModels/v1"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


def ask(text: str, model: str = PRO, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def native(text: str, model: str = PRO, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "modelUri": model,
        "completionOptions": {"stream": stream},
        "messages": [{"role": "user", "text": text}],
        **more,
    }


async def chunks_of(vendors: Vendors, body: dict[str, Any]) -> list[Any]:
    """The payloads of a streamed chat; the last one is [DONE]."""
    async with vendors.session.post(vendors.url + CHAT, json={**body, "stream": True}, headers=KEY) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        lines = (await response.text()).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


async def lines_of(vendors: Vendors, body: dict[str, Any]) -> list[Any]:
    async with vendors.session.post(f"{vendors.url}{NATIVE}/completion", json=body, headers=KEY) as response:
        assert response.status == 200
        return [json.loads(line)["result"] for line in (await response.text()).splitlines()]


# ── the OpenAI surface ───────────────────────────────────────────────────────────────────────────────────


async def test_the_dialect_of_the_vendors_own_models(vendors: Vendors) -> None:
    _, whole = await vendors.post(CHAT, ask("скажи 12 слов"), **KEY)
    assert re.fullmatch(r"[0-9a-f-]{36}", whole["id"])
    assert whole["model"] == PRO
    assert set(whole["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    chunks = await chunks_of(vendors, ask("скажи 12 слов"))
    assert all("usage" not in chunk for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"].keys() == {"role", "content"}
    assert choices[0]["delta"]["content"]
    assert choices[-1]["finish_reason"] == "stop"
    assert choices[-1]["delta"]["content"]
    assert all("finish_reason" not in choice for choice in choices[:-1])
    said = "".join(choice["delta"]["content"] for choice in choices)
    assert said == whole["choices"][0]["message"]["content"]
    assert len(said.split()) == 12


async def test_calls_of_the_vendors_own_models_are_named_after_their_function(vendors: Vendors) -> None:
    body = ask("get weather", tools=[WEATHER], parallel_tool_calls=False)
    _, whole = await vendors.post(CHAT, body, **KEY)
    message = whole["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert (call["index"], call["id"], message["content"]) == (0, "get_weather", "")
    (chunk,) = await chunks_of(vendors, body)
    (choice,) = chunk["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["delta"]["tool_calls"] == [call]


async def test_the_dialect_of_hosted_open_models(vendors: Vendors) -> None:
    body = ask("get weather", QWEN, tools=[WEATHER])
    chunks = await chunks_of(vendors, body)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant"}
    assert chunks[0]["id"].startswith("chatcmpl-")
    assert chunks[0]["model"] == "gpt://qwen3-235b-a22b-fp8/latest"
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    head, *rest = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert head["id"].startswith("chatcmpl-tool-")
    assert len(rest) > 1
    for piece in rest:
        assert (piece["index"], piece["id"], piece["type"], piece["function"]["name"]) == (0, "", "", "")
    assert json.loads("".join(piece["function"]["arguments"] for piece in rest)).keys() == {"city", "days"}
    assert chunks[-2]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_open_models_think_aloud(vendors: Vendors) -> None:
    _, whole = await vendors.post(CHAT, ask("echo: 42", f"gpt://{FOLDER}/gpt-oss-120b/latest"), **KEY)
    message = whole["choices"][0]["message"]
    assert (message["content"], bool(message["reasoning_content"])) == ("42", True)
    chunks = await chunks_of(vendors, ask("echo: 42", QWEN, reasoning_effort="low"))
    assert any("reasoning_content" in chunk["choices"][0]["delta"] for chunk in chunks[:-1])


async def test_the_same_is_said_to_the_same(vendors: Vendors) -> None:
    answers = [await vendors.post(CHAT, ask("привет"), **KEY) for _ in range(2)]
    assert answers[0][1]["choices"] == answers[1][1]["choices"]
    assert answers[0][1]["id"] == answers[1][1]["id"]


async def test_several_turns_with_results(vendors: Vendors) -> None:
    call = {"id": "get_weather", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "погода?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "get_weather", "content": "27 градусов"},
    ]
    _, whole = await vendors.post(CHAT, {"model": PRO, "messages": messages}, **KEY)
    assert "27 градусов" in whole["choices"][0]["message"]["content"]
    call["id"] = "call_of_ours"
    status, body = await vendors.post(CHAT, {"model": PRO, "messages": messages}, **KEY)
    assert (status, "unknown call id" in body["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"messages": []}, "empty"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "role"),
        ({"temperature": 1.5}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": "yandexgpt"}, "Failed to parse model URI"),
        ({"model": f"gpt://{FOLDER}/none/latest"}, "Failed to get model"),
        ({"model": "gpt://b1gother/yandexgpt/latest"}, "does not match with service account folder"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "images"),
        ({"messages": [{"role": "user", "content": "x" * 140_000}]}, "no more than 32768"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "name"),
    ],
)
async def test_wrong_requests(vendors: Vendors, change: dict[str, Any], says: str) -> None:
    status, body = await vendors.post(CHAT, {**ask("x"), **change}, **KEY)
    assert (status, says in body["error"]["message"]) == (400, True), body


async def test_models_and_vectors(vendors: Vendors) -> None:
    status, _ = await vendors.get("/yandex/v1/models", **KEY)
    assert status == 400
    _, models = await vendors.get("/yandex/v1/models", **KEY, **{"OpenAI-Project": FOLDER})
    assert {"id": PRO, "object": "model", "owned_by": "Yandex", "created": 0} in models["data"]
    emb = f"emb://{FOLDER}/text-search-doc/latest"
    _, found = await vendors.post("/yandex/v1/embeddings", {"model": emb, "input": ["текст"]}, **KEY)
    _, same = await vendors.post(f"{NATIVE}/textEmbedding", {"modelUri": emb, "text": "текст"}, **KEY)
    assert found["data"][0]["embedding"] == same["embedding"]
    assert (len(same["embedding"]), same["numTokens"]) == (256, "2")
    status, _ = await vendors.post("/yandex/v1/embeddings", {"model": emb, "input": ["a", "b"]}, **KEY)
    assert status == 400


# ── the native surface ───────────────────────────────────────────────────────────────────────────────────


async def test_a_native_answer_is_wrapped_and_counts_in_text(vendors: Vendors) -> None:
    _, body = await vendors.post(f"{NATIVE}/completion", native("echo: Привет!"), **KEY)
    result = body["result"]
    assert result["alternatives"] == [
        {"message": {"role": "assistant", "text": "Привет!"}, "status": "ALTERNATIVE_STATUS_FINAL"}
    ]
    usage = result["usage"]
    assert (usage["completionTokens"], usage["completionTokensDetails"]) == ("2", {"reasoningTokens": "0"})
    assert int(usage["totalTokens"]) == int(usage["inputTextTokens"]) + 2
    assert "usage" not in body


async def test_a_native_stream_repeats_all_that_was_said(vendors: Vendors) -> None:
    lines = await lines_of(vendors, native("скажи 30 слов", stream=True))
    texts = [line["alternatives"][0]["message"]["text"] for line in lines]
    assert len(texts) > 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    statuses = [line["alternatives"][0]["status"] for line in lines]
    assert statuses == ["ALTERNATIVE_STATUS_PARTIAL"] * (len(lines) - 1) + ["ALTERNATIVE_STATUS_FINAL"]
    _, whole = await vendors.post(f"{NATIVE}/completion", native("скажи 30 слов"), **KEY)
    assert whole["result"]["alternatives"][0]["message"]["text"] == texts[-1]


async def test_a_line_never_leaves_in_one_piece(vendors: Vendors) -> None:
    await vendors.settings(pace_ms=1)
    url = f"{vendors.url}{NATIVE}/completion"
    async with vendors.session.post(url, json=native("скажи 30 слов", stream=True), headers=KEY) as response:
        pieces = [data async for data, end in response.content.iter_chunks() if end and data]
    assert sum(not piece.endswith(b"\n") for piece in pieces) >= len(pieces) // 3


async def test_native_calls_are_objects_with_doubles(vendors: Vendors) -> None:
    body = native("get weather", tools=[{"function": WEATHER["function"]}], toolChoice={"mode": "REQUIRED"})
    _, whole = await vendors.post(f"{NATIVE}/completion", body, **KEY)
    (alternative,) = whole["result"]["alternatives"]
    assert alternative["status"] == "ALTERNATIVE_STATUS_TOOL_CALLS"
    (call,) = alternative["message"]["toolCallList"]["toolCalls"]
    assert isinstance(call["functionCall"]["arguments"]["days"], float)


async def test_hidden_reasoning_is_counted_and_not_shown(vendors: Vendors) -> None:
    body = native("echo: 42")
    body["completionOptions"]["reasoningOptions"] = {"mode": "ENABLED_HIDDEN"}
    _, whole = await vendors.post(f"{NATIVE}/completion", body, **KEY)
    result = whole["result"]
    assert int(result["usage"]["completionTokensDetails"]["reasoningTokens"]) > 5
    assert result["alternatives"][0]["message"] == {"role": "assistant", "text": "42"}


async def test_the_filter(vendors: Vendors) -> None:
    _, whole = await vendors.post(f"{NATIVE}/completion", native("запретная тема"), **KEY)
    assert whole["result"]["alternatives"][0]["status"] == "ALTERNATIVE_STATUS_CONTENT_FILTER"
    *said, last = await lines_of(vendors, native("опасный поворот", stream=True))
    assert said
    before, after = (line["alternatives"][0]["message"]["text"] for line in (said[-1], last))
    assert not after.startswith(before)
    assert last["alternatives"][0]["status"] == "ALTERNATIVE_STATUS_CONTENT_FILTER"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"messages": []}, "Empty"),
        ({"seed": 1}, "unknown field"),
        ({"messages": [{"role": "tool", "text": "x"}]}, "role"),
        ({"messages": [{"role": "user", "text": "x", "toolResultList": {}}]}, "one of"),
        ({"completionOptions": {"temperature": 2}}, "temperature"),
        ({"completionOptions": {"maxTokens": "many"}}, "int64"),
        ({"jsonObject": True, "jsonSchema": {"schema": {}}}, "exclude"),
        ({"modelUri": QWEN}, "Failed to get model"),
    ],
)
async def test_wrong_native_requests(vendors: Vendors, change: dict[str, Any], says: str) -> None:
    status, body = await vendors.post(f"{NATIVE}/completion", {**native("x"), **change}, **KEY)
    assert status == 400
    error = body["error"]
    assert (error["grpcCode"], error["httpCode"], error["httpStatus"]) == (3, 400, "Bad Request")
    assert says in error["message"]


async def test_tokens(vendors: Vendors) -> None:
    _, body = await vendors.post(f"{NATIVE}/tokenize", {"modelUri": PRO, "text": "восемь б"}, **KEY)
    assert [token["special"] for token in body["tokens"]] == [True, False, False]
    _, body = await vendors.post(f"{NATIVE}/tokenizeCompletion", native("восемь б"), **KEY)
    assert len(body["tokens"]) == 3


async def test_operations_take_their_time(vendors: Vendors) -> None:
    await vendors.settings(operation_s=0.2)
    order = {"modelUri": f"art://{FOLDER}/yandex-art/latest", "messages": [{"text": "кот", "weight": "1"}]}
    _, first = await vendors.post(f"{NATIVE}/imageGenerationAsync", order, **KEY)
    assert (first["done"], "response" in first) == (False, False)
    status, _ = await vendors.get(f"/yandex/operations/{first['id']}", Authorization="Api-Key b1gother.key")
    assert status == 404
    async with asyncio.timeout(10):
        while not (found := (await vendors.get(f"/yandex/operations/{first['id']}", **KEY))[1])["done"]:
            await asyncio.sleep(0.02)
    assert base64.b64decode(found["response"]["image"]).startswith(b"\xff\xd8\xff")
    await vendors.settings(operation_s=0)
    _, deferred = await vendors.post(f"{NATIVE}/completionAsync", native("echo: да"), **KEY)
    _, found = await vendors.get(f"/yandex/operations/{deferred['id']}", **KEY)
    assert found["response"]["alternatives"][0]["message"]["text"] == "да"
    order["modelUri"] = f"art://{FOLDER}/yandex-art+error-0/latest"
    _, broken = await vendors.post(f"{NATIVE}/imageGenerationAsync", order, **KEY)
    _, found = await vendors.get(f"/yandex/operations/{broken['id']}", **KEY)
    assert (found["error"]["code"], "response" in found) == (13, False)


# ── who may call ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("authorization", "status", "grpc"),
    [
        ("", 401, 16),
        ("Api-Key wrong", 401, 16),
        ("Api-Key expired", 401, 16),
        ("Bearer t1.unknown", 401, 16),
        ("Api-Key norole-key", 403, 7),
        ("Api-Key b1gother.key", 400, 3),
    ],
)
async def test_credentials(vendors: Vendors, authorization: str, status: int, grpc: int) -> None:
    given = {"Authorization": authorization} if authorization else {}
    got, streaming = await vendors.post(f"{NATIVE}/completion", native("x"), **given)
    assert (got, streaming["error"]["grpcCode"]) == (status, grpc)
    got, unary = await vendors.post(f"{NATIVE}/tokenize", {"modelUri": PRO, "text": "x"}, **given)
    assert (got, unary["code"], unary["details"][0]["@type"]) == (
        status, grpc, "type.googleapis.com/google.rpc.RequestInfo",
    )  # fmt: skip
    got, _ = await vendors.post(CHAT, ask("x"), **given)
    assert got == status


async def test_an_api_key_may_be_a_bearer_on_the_openai_surface_only(vendors: Vendors) -> None:
    assert (await vendors.post(CHAT, ask("x"), Authorization="Bearer AQVNtest"))[0] == 200
    assert (await vendors.post(f"{NATIVE}/completion", native("x"), Authorization="Bearer AQVNtest"))[0] == 401


def encoded(value: Any) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


class Account:
    """A service account with a key from the simulator."""

    def __init__(self, made: dict[str, Any]) -> None:
        pem = made["privateKey"]
        private = load_pem_private_key(pem[pem.index("-----BEGIN") :].encode(), None)
        assert isinstance(private, rsa.RSAPrivateKey)
        self.private = private
        self.head = {"typ": "JWT", "alg": "PS256", "kid": made["key"]["id"]}

    def assertion(self, now: int, *, salt: int = 32, sha: Any = SHA256, **claims: Any) -> str:
        whole = {"iss": "sa-1", "aud": AUDIENCE, "iat": now, "exp": now + 3600, **claims}
        signed = encoded(self.head) + b"." + encoded(whole)
        how = padding.PSS(padding.MGF1(sha()), salt)
        return (signed + b"." + encoded(self.private.sign(signed, how, sha()))).decode()


async def test_an_assertion_becomes_a_token_and_nothing_else_does(vendors: Vendors) -> None:
    _, made = await vendors.post("/yandex/iam/v1/keys", {"serviceAccountId": "sa-1"})
    account = Account(made)
    now = int(SystemClock().now())  # the simulators go by the same
    good = account.assertion(now)

    async def status(assertion: str) -> int:
        return (await vendors.post("/yandex/iam/v1/tokens", {"jwt": assertion}))[0]

    got, answer = await vendors.post("/yandex/iam/v1/tokens", {"jwt": good})
    assert got == 200
    assert re.fullmatch(r"t1\.[A-Za-z0-9_-]+[=]{0,2}\.[A-Za-z0-9_-]{86}[=]{0,2}", answer["iamToken"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", answer["expiresAt"])
    bearer = {"Authorization": f"Bearer {answer['iamToken']}"}
    assert (await vendors.post(f"{NATIVE}/completion", native("x"), **bearer))[0] == 200
    assert await status(good[:-8] + "AAAAAAAA") == 401
    assert await status(account.assertion(now, aud="https://elsewhere")) == 401
    assert await status(account.assertion(now, iss="sa-2")) == 401
    assert await status(account.assertion(now - 4000)) == 401
    assert await status(account.assertion(now, exp=now + 7200)) == 401
    assert await status(account.assertion(now, salt=20, sha=SHA1)) == 401
    account.head["kid"] = "unknown"
    assert await status(account.assertion(now)) == 401
    account.head |= {"kid": made["key"]["id"], "alg": "RS256"}
    assert await status(account.assertion(now)) == 401
    assert await status("no.jwt") == 400
    assert await status("x" * 8001) == 400
    assert (await vendors.post("/yandex/iam/v1/tokens", {}))[0] == 400
    assert (await vendors.post("/control/expire-tokens", {}))[1]["expired"] == 1
    assert (await vendors.post(f"{NATIVE}/completion", native("x"), **bearer))[0] == 401


async def test_ten_at_once_and_no_more(vendors: Vendors) -> None:
    await vendors.settings(first_ms=300)
    answers = await asyncio.gather(*(vendors.post(CHAT, ask(f"echo: {n}"), **KEY) for n in range(12)))
    statuses = sorted(status for status, _ in answers)
    assert statuses == [200] * 10 + [429] * 2
    assert any("quota limit exceed" in str(body) for status, body in answers if status == 429)
    await vendors.settings(limits={"yandex": 1})
    answers = await asyncio.gather(*(vendors.post(f"{NATIVE}/completion", native("x"), **KEY) for _ in range(2)))
    assert sorted(status for status, _ in answers) == [200, 429]


@pytest.mark.parametrize("path", [CHAT, f"{NATIVE}/completion"])
async def test_faults(vendors: Vendors, path: str) -> None:
    model = f"gpt://{FOLDER}/yandexgpt/latest+status-503"
    body = ask("x", model) if path == CHAT else native("x", model)
    assert (await vendors.post(path, body, **KEY))[0] == 503
    short = f"gpt://{FOLDER}/yandexgpt+status-500/latest"
    body = ask("x", short) if path == CHAT else native("x", short)
    assert (await vendors.post(path, body, **KEY))[0] == 500
    await vendors.post("/control/faults", {"model": "yandexgpt/*", "fault": "status-429", "times": 1})
    body = ask("x") if path == CHAT else native("x")
    assert [(await vendors.post(path, body, **KEY))[0] for _ in range(2)] == [429, 200]
    struck = {row["fault"] for row in await vendors.rows() if row["path"].endswith(path)}
    assert struck == {
        "status-503",
        "status-500",
        "status-429",
        "",
    }


async def test_a_native_stream_that_breaks_off_with_an_error(vendors: Vendors) -> None:
    body = native("скажи 40 слов", f"gpt://{FOLDER}/yandexgpt/latest+error-2", stream=True)
    async with vendors.session.post(f"{vendors.url}{NATIVE}/completion", json=body, headers=KEY) as response:
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert [*map(list, lines)] == [["result"], ["result"], ["error"]]
    assert lines[-1]["error"]["httpCode"] == 500
