"""Drives an adapter with one request parameter after another, and looks at what leaves for the vendor.

Each request is read by the dialect first, as a client's would be. An outcome is a word: `=` the parameter left as it
came; `→ x, y` it became these fields or headers; `clamped` it left as the nearest value that the vendor takes, and the
client is told; `dropped` it did not leave, and the client is told; `refused` the request is a 400; `gateway` the vendor
is asked for nothing else, since the gateway does it itself, or there is nothing to do.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from tests.providers.scripted import (
    FIXTURES,
    OUR_KEY,
    SHARED,
    TOKEN,
    Reply,
    Sent,
    attempt_for,
    collect,
    connect,
    wire_of,
)

from xrouter.core.call import Attempt
from xrouter.core.chat import ChatRequest
from xrouter.core.deployment import Deployment
from xrouter.core.errors import Invalid, UpstreamError
from xrouter.dialects.openai import chat_request
from xrouter.gateway import fan_out
from xrouter.gateway.route import Candidate
from xrouter.providers import load
from xrouter.settings import ProviderSettings

HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FUNCTION = {"name": "f", "description": "does f", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}, {"type": "function", "function": FUNCTION | {"name": "g"}}]
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
PAPER = "data:application/pdf;base64,JVBERi0xLjQK"


@dataclass(frozen=True)
class Account:
    """A kind as an account uses it, and a model's name where some differ from others. `path` is the end of the URL of
    its chats where that is not the kind's usual one; of the body's fields in `inside` each member is seen alone."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    inside: tuple[str, ...] = ()
    model: str = "m"


# Accounts whose options choose another wire than the kind's usual one, or whose models are another sort.
_OTHER_WIRES: dict[str, Account] = {
    "anthropic {version: 2026-10-21}": Account("anthropic", {"version": "2026-10-21"}),
    "gigachat {contract: v2}": Account("gigachat", {"contract": "v2"}, inside=("model_options",)),
    "yandexgpt, its own models": Account("yandexgpt", model="yandexgpt"),
    "yandexgpt {surface: native}": Account(
        "yandexgpt", {"surface": "native"}, path="/foundationModels/v1/completion", inside=("completionOptions",)
    ),
}


def accounts(kinds: Iterable[str]) -> dict[str, Account]:
    """Every way to use one of the `kinds`, by the name that it has in the table."""
    usual = {kind: Account(kind) for kind in kinds}
    return usual | {name: account for name, account in _OTHER_WIRES.items() if account.kind in usual}


@dataclass(frozen=True)
class Case:
    """`sent` beside what the request holds anyway (`beside`)."""

    sent: dict[str, Any]
    beside: dict[str, Any] = field(default_factory=lambda: {"messages": HI})
    stream: bool = False
    include_usage: bool = False


def said(*messages: dict[str, Any]) -> Case:
    return Case({"messages": [*messages]})


def parts(part: dict[str, Any]) -> Case:
    return said({"role": "user", "content": [{"type": "text", "text": "hi"}, part]})


def chosen(choice: Any) -> Case:
    return Case({"tool_choice": choice}, {"messages": HI, "tools": TOOLS})


# In the order of the parameter map that the expectations were transcribed from.
CASES: dict[str, Case] = {
    "role `developer`": said({"role": "developer", "content": "be brief"}, *HI),
    "second `system`": said({"role": "system", "content": "a"}, *HI, {"role": "system", "content": "b"}, *HI),
    "`image_url` part": parts({"type": "image_url", "image_url": {"url": PICTURE}}),
    "`file` part": parts({"type": "file", "file": {"file_data": PAPER, "filename": "a.pdf"}}),
    "`input_audio` part": parts({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    "`temperature`": Case({"temperature": 0.5}),
    "`temperature` 0": Case({"temperature": 0}),
    "`temperature` 2": Case({"temperature": 2}),
    "`top_p`": Case({"top_p": 0.5}),
    "`max_tokens`": Case({"max_tokens": 5}),
    "`max_completion_tokens`": Case({"max_completion_tokens": 5}),
    "`stream`": Case({}, stream=True),
    "`stream_options.include_usage`": Case({}, stream=True, include_usage=True),
    "`stop`": Case({"stop": ["END"]}),
    "`n`": Case({"n": 2}),
    "`tools` (function)": Case({"tools": TOOLS}),
    "`tools` (custom)": Case({"tools": [{"type": "custom", "custom": {"name": "c"}}]}),
    "`tools` (hosted)": Case({"tools": [{"type": "web_search"}]}),
    "`tool_choice` none": chosen("none"),
    "`tool_choice` auto": chosen("auto"),
    "`tool_choice` required": chosen("required"),
    "`tool_choice` required, one tool": Case({"tool_choice": "required"}, {"messages": HI, "tools": TOOLS[:1]}),
    "`tool_choice` named": chosen({"type": "function", "function": {"name": "f"}}),
    "`tool_choice` allowed_tools": chosen(
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
        }
    ),
    "`parallel_tool_calls`": Case({"parallel_tool_calls": False}, {"messages": HI, "tools": TOOLS}),
    "`functions`, `function_call`": Case({"functions": [FUNCTION], "function_call": {"name": "f"}}),
    "`response_format` json_schema": Case(
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}}
    ),
    "`response_format` json_object": Case({"response_format": {"type": "json_object"}}),
    "`reasoning_effort`": Case({"reasoning_effort": "high"}),
    "`reasoning_effort` minimal": Case({"reasoning_effort": "minimal"}),
    "`reasoning_effort` none": Case({"reasoning_effort": "none"}),
    "`frequency_penalty`": Case({"frequency_penalty": 0.5}),
    "`presence_penalty`": Case({"presence_penalty": 0.5}),
    "`logit_bias`": Case({"logit_bias": {"5": 1}}),
    "`logprobs`, `top_logprobs`": Case({"logprobs": True, "top_logprobs": 2}),
    "`top_logprobs` 20": Case({"top_logprobs": 20}, {"messages": HI, "logprobs": True}),
    "`seed`": Case({"seed": 1}),
    "`user`": Case({"user": "someone"}),
    "`safety_identifier`": Case({"safety_identifier": "someone"}),
    "`metadata`": Case({"metadata": {"a": "b"}}),
    "`store`": Case({"store": True}),
    "`prompt_cache_key`": Case({"prompt_cache_key": "k"}),
    "`prompt_cache_options`": Case({"prompt_cache_options": {"mode": "auto"}}),
    "`prompt_cache_retention`": Case({"prompt_cache_retention": "24h"}),
    "`service_tier`": Case({"service_tier": "flex"}),
    "`verbosity`": Case({"verbosity": "low"}),
    '`modalities` ["text"]': Case({"modalities": ["text"]}),
    "`modalities` with audio": Case({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}),
    "`prediction`": Case({"prediction": {"type": "content", "content": "x"}}),
    "`web_search_options`": Case({"web_search_options": {}}),
    "`moderation`": Case({"moderation": {"model": "m"}}),
    "`top_k`": Case({"top_k": 5}),
    "`min_p`": Case({"min_p": 0.1}),
    "`repetition_penalty`": Case({"repetition_penalty": 1.1}),
    "`chat_template_kwargs`": Case({"chat_template_kwargs": {"enable_thinking": True}}),
    "unknown parameters": Case({"nobody_knows_me": 1}),
}


def outcomes(account: Account) -> dict[str, str]:
    """The outcome of every case for the adapter of `account`."""

    async def drive() -> dict[str, str]:
        return {name: await _outcome(account, case) for name, case in CASES.items()}

    return asyncio.run(drive())


async def _outcome(account: Account, case: Case) -> str:
    plain, _ = await _left(account, Case({}, case.beside, case.stream and not case.sent and case.include_usage))
    try:
        left, attempt = await _left(account, case)
    except Invalid:
        return "refused"
    if set(case.sent) & set(attempt.dropped):
        return "dropped"
    if set(case.sent) & set(attempt.clamped or ()):
        return "clamped"
    if case.sent and all(left.get(name) == value for name, value in case.sent.items()):
        return "="
    changed = sorted(name for name in {*left, *plain} if left.get(name) != plain.get(name))
    if not changed:
        return "gateway"
    return "=" if changed == ["stream"] or changed == ["stream", "stream_options"] else f"→ {', '.join(changed)}"


async def _left(account: Account, case: Case) -> tuple[dict[str, Any], Attempt]:
    """What leaves for the vendor, the body's fields and the headers together, and the attempt that it was."""
    said = {"model": "acme/m", "stream": case.stream, **case.beside, **case.sent}
    if case.include_usage:
        said["stream_options"] = {"include_usage": True}
    request = chat_request.parse(msgspec.json.encode(said))
    kind, wire = account.kind, wire_of(account.kind)
    options = {**wire.options, **account.options}
    path = account.path or wire.path
    split, _ = fan_out.split(request, (Candidate("acme/m", deployment(account)),))
    if split:
        part = split[0].request
        assert isinstance(part, ChatRequest)
        request = part
    provider, transport = connect(kind, _answers(kind, path, stream=case.stream), options=options)
    attempt = attempt_for(request)
    attempt.deployment = deployment(account)
    with suppress(UpstreamError):  # an answer that does not fit what was asked for: what left, has left
        await collect(provider, request, attempt)
    chat = next(sent for sent in reversed(transport.sent) if sent.url.endswith(path))
    headers = {name.lower(): value for name, value in chat.headers.items()}
    ours = {"accept", "authorization", "cache-control", "content-type", "x-request-id"}
    body = chat.json()
    for outer in account.inside:
        body |= {f"{outer}.{name}": value for name, value in body.pop(outer, {}).items()}
    return body | {name: text for name, text in headers.items() if name not in ours}, attempt


def deployment(account: Account) -> Deployment:
    """The one deployment of the account."""
    wire = wire_of(account.kind)
    settings = {
        "kind": account.kind,
        "base_url": f"https://upstream.test{wire.base_path}",
        "api_key": OUR_KEY,
        "models": [account.model],
        "options": {**wire.options, **account.options},
    }
    (found,) = load(account.kind).deployments("acme", ProviderSettings.model_validate(settings))
    return found


def _answers(kind: str, path: str, *, stream: bool) -> Any:
    folder = FIXTURES / kind if (FIXTURES / kind).exists() else FIXTURES / SHARED
    body = folder / ("text.sse" if stream else "text.json")
    if not body.exists():
        body = FIXTURES / SHARED / body.name
    content = body.read_bytes()
    wire = wire_of(kind)

    def answer(sent: Sent) -> Reply:
        if sent.url.endswith(path):
            return Reply(headers={"content-type": wire.stream_type if stream else "application/json"}, chunks=[content])
        if sent.url.endswith("/oauth"):
            return Reply(chunks=[TOKEN])
        return Reply(chunks=[b'{"id":"file-1","object":"file"}'])  # an upload

    return answer
