"""What both surfaces read of a request in the same way: tools, the choice among them, stops, what is left out."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from xrouter.core.chat import ChatRequest
from xrouter.core.errors import Invalid

_READ: Final = frozenset(
    {
        "messages", "model", "models", "stream", "stream_options", "prompt", "n", "modalities", "temperature",
        "max_tokens", "max_completion_tokens", "stop", "tools", "tool_choice", "parallel_tool_calls",
        "response_format", "reasoning_effort",
    }
)  # fmt: skip
"""Read by us, or by the gateway: `n` is made of so many attempts."""

# Parameters that the vendor lacks, with the values that ask for nothing: there is nothing to report then.
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "top_p": (1,),
}


_NO_PARAMETERS: Final = frozenset({"messages", "model", "models", "stream", "stream_options", "prompt", "modalities"})


def followed(taken: Iterable[str] = ()) -> frozenset[str]:
    """The names of the parameters that are followed, by the vendor or by us; `taken` are those of a surface alone."""
    return _READ.union(taken) - _NO_PARAMETERS


class Tools(NamedTuple):
    """The functions on offer as `{"name", "description", "parameters", "strict"}`, of those what the client gave.

    `mode` tells whether one is to be called; `only` names the one that must be.
    """

    functions: list[dict[str, Any]]
    mode: Literal["none", "auto", "required"] = "auto"
    only: str | None = None


def refuse(request: ChatRequest) -> None:
    """Raises `Invalid` for what neither surface can say."""
    if set(request.field("modalities") or ()) - {"text"}:
        raise Invalid("YandexGPT answers in text only", param="modalities")


def tools_of(request: ChatRequest) -> Tools:
    """The tools and the choice. Raises `Invalid`."""
    functions = []
    for place, tool in enumerate(request.field("tools") or ()):
        if tool.get("type") != "function":
            raise Invalid(
                f"tools[{place}].type is {tool.get('type')!r}: YandexGPT knows functions only",
                param=f"tools[{place}].type",
            )
        functions.append(tool["function"])
    choice = request.field("tool_choice")
    kept = [_known(function) for function in functions]
    if not kept:
        return Tools([], "none")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        names, choice = _allowed(choice.get("allowed_tools") or choice)
        kept = [function for function in kept if function["name"] in names]
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        if wanted not in [function["name"] for function in kept]:
            raise Invalid(f"tool_choice names {wanted!r}, which is not among the tools", param="tool_choice")
        return Tools(kept, "required", wanted)
    return Tools(kept, choice if choice in ("none", "required") else "auto")


def _allowed(allowed: Any) -> tuple[list[Any], Any]:
    """The names of the functions in `allowed_tools`, and the mode. Raises `Invalid`."""
    tools = allowed.get("tools") if isinstance(allowed, dict) else None
    functions = [tool.get("function") if isinstance(tool, dict) else None for tool in tools or ()]
    named = [function.get("name") for function in functions if isinstance(function, dict)]
    if not isinstance(allowed, dict) or len(named) != len(functions):
        raise Invalid("tool_choice.allowed_tools: each tool is an object with a function", param="tool_choice")
    return named, allowed.get("mode", "auto")


def _known(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: function[name]
        for name in ("name", "description", "parameters", "strict")
        if function.get(name) is not None
    }


def temperature(request: ChatRequest) -> tuple[float | None, dict[str, float]]:
    """What leaves, and what of it was clamped: the vendor's range ends at 1, OpenAI's at 2."""
    found: float | None = request.field("temperature")
    return (1.0, {"temperature": 1.0}) if found is not None and found > 1 else (found, {})


def stops(request: ChatRequest) -> tuple[str, ...]:
    """The texts at which the gateway ends the answer."""
    found: str | list[str] | None = request.field("stop")
    return tuple(text for text in ([found] if isinstance(found, str) else found or ()) if text)


def one_call(request: ChatRequest) -> bool:
    """`parallel_tool_calls: false`, which the vendor takes and ignores: only the first call is passed on."""
    return request.field("parallel_tool_calls") is False


def dropped(request: ChatRequest, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """The parameters that do not leave; `taken` are those of this surface alone."""
    known = _READ.union(taken)
    names = []
    for name in request.fields:
        if name not in known:
            value = request.field(name)
            if value is not None and value not in _NEUTRAL.get(name, ()):
                names.append(name)
    return tuple(names)
