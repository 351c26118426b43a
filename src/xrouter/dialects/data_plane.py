"""The data plane: a small route table over raw ASGI, and the place where its errors become answers.

`dialects/openai/problems.py` gives them their shape; an error in the middle of a stream is told by the handler.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from xrouter.core.errors import GatewayError, Internal, MethodNotAllowed, NotFound
from xrouter.core.ports import Uptimes
from xrouter.dialects.exchange import JSON, ClientLeft, Exchange, Receive, Scope, Send
from xrouter.dialects.limits import Limits
from xrouter.dialects.openai import chat, completions, embeddings, images, models, problems, rerank
from xrouter.dialects.openai.endpoint import Endpoint
from xrouter.dialects.openrouter import chat as openrouter_chat
from xrouter.dialects.openrouter import models as openrouter_models
from xrouter.dialects.openrouter import others
from xrouter.dialects.openrouter import problems as openrouter_problems
from xrouter.dialects.openrouter.endpoints import SUFFIX, Endpoints
from xrouter.dialects.provider_status import ProviderStatus, UptimeMemory
from xrouter.edge.body import ClientGone
from xrouter.edge.client_ip import client_of
from xrouter.edge.door import Door
from xrouter.gateway import pipeline
from xrouter.gateway.gateway import Gateway

Handler = Callable[[Exchange], Awaitable[None]]

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left; it is logged and counted, never sent."""

_HEALTH_WORDS = frozenset({"health", "healthz", "livez", "readyz", "ready", "live", "ping"})

_log = structlog.get_logger()


class DataPlane:
    """Serves `/v1/*`, and of `/api/v1/*` what `serves` says. `running` holds every exchange from its first to its
    last byte."""

    def __init__(self, gateway: Gateway, limits: Limits, books: Uptimes | None = None) -> None:
        """Without `books` nobody knows how long anything was up."""
        self._limits = limits
        self._uptimes = UptimeMemory(books, gateway.clock)
        self.running: set[Exchange] = set()
        self.door = Door(
            most=limits.max_in_flight,
            most_waiting=limits.overload_queue,
            wait_s=limits.overload_wait_s,
            max_lag_s=limits.max_lag_s,
        )
        self.serve(gateway)

    def serve(self, gateway: Gateway) -> None:
        """By this gateway from the next request on, all at once. What runs goes on with the one it began with: its
        endpoint holds it."""
        limits = self._limits
        self._gateway = gateway
        model: Mapping[str, Handler] = {"GET": openrouter_models.Model(gateway)}
        pictures = Endpoint(gateway, limits, others.IMAGES)  # the SDK's URL, and the one of OpenAI's form
        self._exact: Mapping[str, Mapping[str, Handler]] = {
            "/v1/chat/completions": {"POST": Endpoint(gateway, limits, chat.FORM)},
            "/v1/completions": {"POST": Endpoint(gateway, limits, completions.FORM)},
            "/v1/embeddings": {"POST": Endpoint(gateway, limits, embeddings.FORM)},
            "/v1/images/generations": {"POST": Endpoint(gateway, limits, images.FORM)},
            "/v1/rerank": {"POST": Endpoint(gateway, limits, rerank.FORM)},
            "/v1/models": {"GET": models.Models(gateway)},
            "/v1/providers/status": {"GET": ProviderStatus(gateway, self._uptimes)},
            "/api/v1/chat/completions": {"POST": Endpoint(gateway, limits, openrouter_chat.FORM)},
            "/api/v1/completions": {"POST": Endpoint(gateway, limits, others.COMPLETIONS)},
            "/api/v1/embeddings": {"POST": Endpoint(gateway, limits, others.EMBEDDINGS)},
            "/api/v1/images": {"POST": pictures},
            "/api/v1/images/generations": {"POST": pictures},
            "/api/v1/rerank": {"POST": Endpoint(gateway, limits, others.RERANK)},
            "/api/v1/models": {"GET": openrouter_models.Models(gateway)},
        }
        self._endpoints: Mapping[str, Handler] = {"GET": Endpoints(gateway, self._uptimes)}
        self._below: Mapping[str, Mapping[str, Handler]] = {
            models.PREFIX: {"GET": models.Model(gateway)},
            **dict.fromkeys(openrouter_models.PREFIXES, model),
        }

    def serves(self, path: str) -> bool:
        """Is this a URL of the data plane, whatever the method?"""
        return path in self._exact or any(_is_below(path, prefix) for prefix in self._below)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        exchange = Exchange(scope, receive, send, gateway.clock.monotonic(), self._limits.trusted_proxies)
        self.running.add(exchange)
        gateway.telemetry.in_flight(1)
        status, code = 0, None
        inside = False
        try:
            wait = self.door.enter()
            if wait is not None:
                await wait
            inside = True
            await self._handler(exchange)(exchange)
            status = exchange.status
        except (ClientLeft, ClientGone):
            status, code = CLIENT_CLOSED_REQUEST, "client_left"
        except GatewayError as error:
            status, code = error.http_status, error.code
            if not exchange.status:
                await _refuse(exchange, error)
        except Exception:
            status, code = 500, "internal_error"
            if exchange.status:
                raise  # the server logs it and cuts the connection: a broken answer must not look whole
            _log.exception("request failed", request_id=exchange.request_id, path=exchange.path)
            await _refuse(exchange, Internal(f"An internal error; it is logged under {exchange.request_id}."))
        finally:
            if inside:
                self.door.leave()
            self.running.discard(exchange)
            gateway.telemetry.in_flight(-1)
            if exchange.call is not None:
                pipeline.end(exchange.call, gateway)
            # Not before the answer: the loop sends what was written when this round of callbacks has run.
            asyncio.get_running_loop().call_soon(self._tell, exchange, status, code)

    def _handler(self, exchange: Exchange) -> Handler:
        methods = self._exact.get(exchange.path)
        if methods is None:
            methods = next((found for prefix, found in self._below.items() if _is_below(exchange.path, prefix)), None)
            if methods is not None and _is_endpoints(exchange.path):
                methods = self._endpoints
        if methods is None:
            raise NotFound(
                f"Unknown URL: {exchange.method} {exchange.path[:200]}.{self._hint(exchange.path)}", code="unknown_url"
            )
        handler = methods.get(exchange.method)
        if handler is None:
            raise MethodNotAllowed(
                f"{exchange.path[:200]} answers {', '.join(methods)}, not {exchange.method}.", allow=tuple(methods)
            )
        return handler

    def _hint(self, path: str) -> str:
        """The commonest mistake is a base URL without `/v1`, with two of them, or with a slash at the end."""
        plain = path.strip("/")
        if plain.split("/")[0] in _HEALTH_WORDS:
            return " Did you mean /health/live or /health/ready?"
        if plain == "v1/metrics":
            return " Did you mean /metrics?"
        wanted = ("/api" if plain.startswith("api/") else "") + "/v1/" + plain.removeprefix("api/").replace("v1/", "")
        if path == f"{wanted}/":
            return f" Did you mean {wanted}, without the slash at the end?"
        if wanted in self._exact or any(wanted.startswith(prefix) for prefix in self._below):
            return f" Did you mean {wanted}? The base URL of this API ends in /v1."
        return ""

    def _tell(self, exchange: Exchange, status: int, code: str | None) -> None:
        """The last that is done for a request: what is counted and logged of it."""
        call, telemetry = exchange.call, self._gateway.telemetry
        trusted_proxies = self._limits.trusted_proxies
        if call is None and status < 400:
            return
        if call is None:
            telemetry.request_refused(_dialect(exchange), status, code)
            _log.info(
                "refused",
                request_id=exchange.request_id,
                method=exchange.method,
                path=exchange.path[:200],
                status=status,
                code=code,
                client=client_of(exchange.scope, trusted_proxies),
            )
        else:
            seconds = self._gateway.clock.monotonic() - exchange.started
            telemetry.call_ended(call, status, code, seconds, lambda: client_of(exchange.scope, trusted_proxies))
            exchange.release()


def _is_below(path: str, prefix: str) -> bool:
    return path.startswith(prefix) and len(path) > len(prefix)


def _is_endpoints(path: str) -> bool:
    """`/api/v1/models/{id}/endpoints`: ids hold slashes, so it lies below the list of models."""
    return path.startswith(f"{openrouter_models.PATH}/") and path.endswith(SUFFIX)


def _dialect(exchange: Exchange) -> str:
    return openrouter_chat.DIALECT if exchange.path.startswith("/api/") else "openai"


async def _refuse(exchange: Exchange, error: GatewayError) -> None:
    headers = [JSON, *problems.headers(error)]
    if exchange.call is not None:
        headers.append((b"x-xrouter-attempts", b"%d" % exchange.call.upstream_calls))
    body = openrouter_problems.body if _dialect(exchange) == openrouter_chat.DIALECT else problems.body
    await exchange.answer(error.http_status, headers, body(error, exchange.request_id))
