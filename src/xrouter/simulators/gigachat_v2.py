"""An answer in GigaChat's second contract: messages of parts, named events, no farewell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from xrouter.simulators import delivery, speech
from xrouter.simulators.answers import Answer

DELTA: Final = b"response.message.delta"
IN_PROGRESS: Final = b"response.tool.in_progress"
COMPLETED: Final = b"response.tool.completed"
DONE: Final = b"response.message.done"


def _framed(event: bytes) -> bytes:
    """An event's name stands before its JSON, parted by a line end."""
    name, parted, data = event.rpartition(b"\n")
    return b"event: %b\ndata: %b\n\n" % (name, data) if parted else b"data: %b\n\n" % event


STREAM: Final = delivery.Stream(frame=_framed, farewell=b"")

SOURCES: Final = {
    "1": {"url": "https://ru.example/baikal", "title": "Байкал"},
    "2": {"url": "https://ru.example/moscow", "title": "Москва"},
}
SOURCE_MARKS: Final = " [sources=[1]] [sources=[1, 2]]"


@dataclass(frozen=True, slots=True)
class SpokenV2:
    """What is said, and with what. `state` goes beside calls; `picture` is the id of a drawn file; `used` the built-in
    tools that were at work; `frame` is the time and the model's build."""

    answer: Answer
    finish: str
    state: str
    picture: str
    used: Sequence[str]
    top_logprobs: int
    frame: tuple[int, str]
    usage: dict[str, int] | None


def whole(spoken: SpokenV2) -> bytes:
    """The body of an answer that is not streamed."""
    answer = spoken.answer
    messages = []
    if answer.reasoning:
        messages.append({"role": "reasoning", "content": [{"text": answer.reasoning}]})
    message: dict[str, Any] = {"role": "assistant", "content": []}
    message["content"] += _files(spoken)
    if answer.text or not (answer.calls or message["content"]):
        message["content"].append({"text": answer.text})
    message["content"] += _calls(spoken)
    message["content"] += _sources(spoken)
    if answer.calls:
        message["tool_state_id"] = spoken.state
    if spoken.top_logprobs:
        message["logprobs"] = _logprobs(answer.text, spoken.top_logprobs)
    body = {**_frame(spoken), "messages": [*messages, message], "finish_reason": spoken.finish}
    if spoken.used:
        body["additional_data"] = [{"execution_steps": [{"name": name} for name in spoken.used]}]
    return msgspec.json.encode({**body, "usage": _usage(spoken.usage)} if spoken.usage else body)


def events(spoken: SpokenV2, pieces: Sequence[tuple[str, str, int]]) -> delivery.Events:
    """The same as a stream. `pieces` are those of the first contract: key, text, tokens."""
    content = [
        (_delta(spoken, "reasoning" if key == "reasoning_content" else "assistant", piece), weight)
        for key, piece, weight in pieces
    ]
    content += [(_event(spoken, "assistant", [part]), 0) for part in _files(spoken)]
    for part, call in zip(_calls(spoken), spoken.answer.calls, strict=True):
        weight = speech.tokens(call.name) + speech.tokens(call.arguments_json)
        content.append((_event(spoken, "assistant", [part], tool_state_id=spoken.state), weight))
    content += [(_event(spoken, "assistant", [part]), 0) for part in _sources(spoken)]
    opening = []
    for tool in spoken.used:
        running = {"name": tool, "status": "running", "seconds_left": 5}
        ready = {"name": tool, "status": "success", "censored": False}
        opening += [
            _named(IN_PROGRESS, _execution("assistant", running)),
            _named(COMPLETED, _execution("reasoning", ready)),
        ]
    last = {**_frame(spoken), "finish_reason": spoken.finish}
    if spoken.usage:
        last["usage"] = _usage(spoken.usage)
    named = [(_named(DELTA, event), weight) for event, weight in content]
    return delivery.Events(opening, named, [_named(DONE, msgspec.json.encode(last))])


def _named(name: bytes, event: bytes) -> bytes:
    return b"%b\n%b" % (name, event)


def _frame(spoken: SpokenV2) -> dict[str, Any]:
    created, model = spoken.frame
    return {"model": model, "created_at": created}


def _delta(spoken: SpokenV2, role: str, text: str) -> bytes:
    more: dict[str, Any] = {}
    if spoken.top_logprobs and role == "assistant":
        more["logprobs"] = _logprobs(text, spoken.top_logprobs)
    return _event(spoken, role, [{"text": text}], **more)


def _event(spoken: SpokenV2, role: str, parts: list[dict[str, Any]], **more: Any) -> bytes:
    return msgspec.json.encode({**_frame(spoken), "messages": [{"role": role, "content": parts, **more}]})


def _execution(role: str, execution: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"messages": [{"role": role, "content": [{"tool_execution": execution}]}]})


def _files(spoken: SpokenV2) -> list[dict[str, Any]]:
    return [{"files": [{"id": spoken.picture, "mime": "image/jpeg", "target": "image"}]}] if spoken.picture else []


def _calls(spoken: SpokenV2) -> list[dict[str, Any]]:
    return [{"function_call": {"name": call.name, "arguments": call.arguments}} for call in spoken.answer.calls]


def _sources(spoken: SpokenV2) -> list[dict[str, Any]]:
    return [{"inline_data": {"sources": SOURCES}}] if "web_search" in spoken.used else []


def _usage(usage: dict[str, int]) -> dict[str, Any]:
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {
            "prompt_tokens": usage["prompt_tokens"],
            "cached_tokens": usage["precached_prompt_tokens"],
        },
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
    }


def _logprobs(text: str, count: int) -> list[dict[str, Any]]:
    """A token is four characters, and the model is nearly sure."""
    step = speech.TOKEN_CHARS
    tokens = [text[at : at + step] for at in range(0, len(text), step)]
    return [
        {
            "chosen": {"token": token, "token_id": place, "logprob": -0.125},
            "top": [{"token": token, "token_id": place + rank, "logprob": -0.125 - rank} for rank in range(count)],
        }
        for place, token in enumerate(tokens)
    ]
