"""The simulators' own endpoints: what they counted, and how they shall behave.

GET  /control/state            sums, who is being served, logins, rules and switches
GET  /control/requests?after=N `data`: rows above number N in order of arrival, at most `limit` (10 000); `next`: the
                               number to go on from; `lost`: how many rows the ring has already forgotten
POST /control/reset            counters, faults and switches as at the start; logins stay valid
POST /control/faults           {"model": glob, "fault": name, "times": n or null}; "fault": null takes the
                               rules of exactly this glob away. The login's model is `oauth`.
POST /control/settings         any of delivery.Switches
POST /control/expire-tokens    every token of every login is expired from now on
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
from aiohttp import web

from xrouter.simulators.desk import Desk
from xrouter.simulators.faults import Rule

PAGE_ROWS: Final = 10_000

_Route = Callable[[web.Request], Awaitable[web.Response]]


class _FaultOrder(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    fault: str | None
    times: int | None = None


class Issuer(Protocol):
    """A login."""

    def expire_all(self) -> int:
        """Every token issued so far is expired from now on; returns how many were alive."""
        ...


class Control:
    """Looks at a desk and turns its switches."""

    def __init__(self, desk: Desk, *logins: Issuer) -> None:
        self._desk = desk
        self._logins = logins

    def routes(self) -> list[tuple[str, str, _Route]]:
        """Method, path, handler."""
        return [
            ("GET", "/control/state", self._state),
            ("GET", "/control/requests", self._requests),
            ("POST", "/control/reset", self._reset),
            ("POST", "/control/faults", self._faults),
            ("POST", "/control/settings", self._settings),
            ("POST", "/control/expire-tokens", self._expire),
        ]

    async def _state(self, _request: web.Request) -> web.Response:
        counters = self._desk.counters
        return _json(
            {
                "seed": self._desk.seed,
                "uptime_ms": counters.uptime_ms,
                "last": counters.last,
                "totals": counters.totals,
                "in_flight": counters.everyone,
                "credentials": counters.credentials,
                "faults": self._desk.faults.rules,
                "settings": self._desk.switches,
            }
        )

    async def _requests(self, request: web.Request) -> web.Response:
        try:
            after = int(request.query.get("after", "0"))
            limit = int(request.query.get("limit", str(PAGE_ROWS)))
        except ValueError:
            return _refusal("after and limit are whole numbers")
        if after < 0 or not 1 <= limit <= PAGE_ROWS:
            return _refusal(f"after is 0 or more, limit is between 1 and {PAGE_ROWS}")
        rows = self._desk.counters.after(after, limit)
        lost = self._desk.counters.lost_after(after)
        return _json({"data": rows, "next": rows[-1].n if rows else after, "lost": lost})

    async def _reset(self, _request: web.Request) -> web.Response:
        self._desk.reset()
        return _json({})

    async def _faults(self, request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await request.read(), type=_FaultOrder)
            if order.fault is None:
                self._desk.faults.remove(order.model)
            else:
                self._desk.faults.add(Rule(order.model, order.fault, order.times))
        except (msgspec.DecodeError, ValueError) as error:
            return _refusal(str(error))
        return _json({"faults": self._desk.faults.rules})

    async def _settings(self, request: web.Request) -> web.Response:
        try:
            self._desk.change(msgspec.json.decode(await request.read(), type=dict[str, Any]))
        except msgspec.DecodeError as error:
            return _refusal(str(error))
        return _json(self._desk.switches)

    async def _expire(self, _request: web.Request) -> web.Response:
        return _json({"expired": sum(login.expire_all() for login in self._logins)})


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _refusal(message: str) -> web.Response:
    return _json({"error": message}, 400)
