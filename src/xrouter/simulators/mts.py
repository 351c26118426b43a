"""MWS Cloud Platform, GPT Model Hub: open models behind a project's path, with error codes of its own.

Its list of codes is published in part, without HTTP statuses and without the envelope: these are assumptions here, and
the switch `flat_errors` takes the envelope away. What a model's server refuses comes in LiteLLM's words, whose code is
the status. https://mws.ru/docs/cloud-platform/gpt/general/error-codes.html
"""

import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from xrouter.simulators import faults
from xrouter.simulators.desk import Handler, Refusal
from xrouter.simulators.faults import Fault
from xrouter.simulators.vllm import Model, Vllm
from xrouter.simulators.vllm_request import ChatRequest
from xrouter.simulators.wire import Wire

FORM: Final = "mts"
_DEPRECATED: Final = "qwen2.5-72b-instruct"
_OFF: Final = "llama-3.1-8b-instruct"
_CODES: Final = {400: "400", 401: "UNAUTHORIZED", 403: "ACCESS_DENIED", 429: "TOO_MANY_REQUESTS"}


class Mts(Vllm):
    """The deployments of the projects in the switch `projects`: the models of the vLLM form, and those of the switch
    `models`. One is switched off, one is deprecated."""

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path under /mts, handler."""
        base = "/projects/{project}/openai/v1"
        served: Sequence[tuple[str, str, Handler]] = [
            ("POST", f"{base}/chat/completions", self._chat),
            ("POST", f"{base}/embeddings", self._embeddings),
            ("GET", f"{base}/models", self._models),
            ("POST", "/projects/{project}/cohere/v2/rerank", self._rerank),
            ("*", "/{rest:.*}", self._nothing),
        ]
        return [(method, path, self._served(handler)) for method, path, handler in served]

    def _check_key(self, request: web.Request) -> None:
        login = request.headers.get("Authorization", "")
        wanted = self._desk.switches.api_key
        if not login.startswith("Bearer ") or (wanted is not None and login != f"Bearer {wanted}"):
            raise Refusal(401, "The token is missing or wrong", code="UNAUTHORIZED")
        project = request.match_info.get("project")
        if project is not None and project not in self._desk.switches.projects:
            raise Refusal(404, f"There is no project {project}", code="PROJECT_NOT_FOUND")

    async def _nothing(self, _request: web.Request, _wire: Wire) -> None:
        raise Refusal(404, "Expected projects/<project>/<basepath>/v1/...", code="BASEPATH_NOT_FOUND")

    def _refused(self, refusal: Refusal) -> bytes:
        code = refusal.extra.get("code") or _CODES.get(refusal.status, "INTERNAL_ERROR")
        return self._body(code, refusal.message, refusal.extra.get("param"))

    def _error(self, status: int, message: str = "", param: str | None = None) -> bytes:
        return self._body(_CODES.get(status, "INTERNAL_ERROR"), message or "Something went wrong", param)

    def _body(self, code: str, message: str, param: str | None) -> bytes:
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        return msgspec.json.encode(error if self._desk.switches.flat_errors else {"error": error})

    def _known(self, data: dict[str, Any], task: str) -> tuple[str, Model, Fault]:
        name = data.get("model")
        bare, fault = faults.split(name) if isinstance(name, str) else ("", faults.NONE)
        if bare == _OFF:
            raise Refusal(400, f"The deployment {bare} is deactivated", code="VALIDATION_FAILED")
        if bare == _DEPRECATED:
            raise Refusal(400, f"The model of {bare} is deprecated", code="MODEL_DEPRECATED")
        model = self._find(bare)
        if model is None:
            raise Refusal(404, f"There is no deployment {name} in this project", code="DEPLOYMENT_NOT_FOUND")
        if model.task != task:
            raise Refusal(400, f"The deployment {bare} cannot do this", code="UNSUPPORTED_ACTION")
        return bare, model, fault

    def _read(self, data: dict[str, Any], name: str, model: Model) -> ChatRequest:
        """Combinations that vLLM refuses in its words are refused here in others."""
        if data.get("stream_options") and not data.get("stream"):
            raise Refusal(400, "stream_options without stream", code="INVALID_PARAMETER_COMBINATION")
        if data.get("top_logprobs") and not data.get("logprobs"):
            raise Refusal(400, "top_logprobs without logprobs", code="INVALID_PARAMETER_COMBINATION")
        if data.get("tools") and name.endswith("-short"):
            raise Refusal(400, f"{name} calls no tools", code="TOOL_CALLING_UNSUPPORTED")
        effort = data.get("reasoning_effort")
        if effort not in (None, "none") and model.reasoning == "none":
            raise Refusal(400, f"{name} does not reason", code="REASONING_UNSUPPORTED")
        chat = super()._read(_with_switch(data, effort), name, model)
        if chat.prompt_tokens + (chat.max_tokens or 1) > model.max_model_len:
            raise Refusal(400, f"More than {model.max_model_len} tokens", code="MAX_TOKENS_EXCEEDED")
        return chat

    def _check_dimensions(self, data: dict[str, Any]) -> None:
        """What becomes of `dimensions` is not documented: here nothing, which is the worst that can be."""

    async def _rerank(self, request: web.Request, wire: Wire) -> None:
        """POST /cohere/v2/rerank: Cohere's form."""
        found = await self._ranked(request, wire)
        if found is None:
            return
        _, fault, results, count = found
        meta = {} if fault.name == "no-usage" else {"meta": {"tokens": {"input_tokens": count}}}
        if fault.name == "wrong-usage":
            meta = {"meta": {"tokens": {"input_tokens": -1}}}
        await self._send_ranking(wire, {"id": str(uuid.uuid4()), "results": results, **meta}, fault)


def _with_switch(data: dict[str, Any], effort: object) -> dict[str, Any]:
    """This vendor knows `reasoning_effort`; the model behind it a switch of its template."""
    if effort is None:
        return data
    return {**data, "chat_template_kwargs": {"enable_thinking": effort != "none"}}
