"""The whole way from an asked-for name to an order: rules, the key, filters, who is ejected, strategy, wishes. Pure.

Nothing that was filtered out comes back. Where nothing is left, the error says what took each candidate out.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import replace

from xrouter.core.call import Call, Request
from xrouter.core.chat import TEXT
from xrouter.core.deployment import Deployment
from xrouter.core.errors import GatewayError, Invalid, NoRoute
from xrouter.core.operation import Operation
from xrouter.core.policy import CONTEXT_LENGTH, Policy, Strategy
from xrouter.core.preferences import NOTHING, Preferences, Sort, SortBy, bounds
from xrouter.gateway import draws, eligibility, fallbacks, permit, rules, situation, strategies
from xrouter.gateway.breaker import standing
from xrouter.gateway.candidate import Candidate
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.group import Group
from xrouter.gateway.health import Health
from xrouter.gateway.output_guess import OutputGuess
from xrouter.gateway.trace import Removed, Trace

_MOST_NAMES: Final = 5
_SORTS: Final[dict[Sort, Strategy]] = {
    "price": Strategy.CHEAPEST,
    "throughput": Strategy.THROUGHPUT,
    "latency": Strategy.LATENCY,
}


def plan(
    request: Request,
    catalog: Catalog,
    health: Health,
    call: Call | None,
    guess: OutputGuess,
    seed: int,
    trace: Trace | None,
) -> tuple[Candidate, ...]:
    """As `route.plan`, in full."""
    trace = Trace() if trace is None else trace
    trace.seed = seed
    return _Weighing(request, catalog, health, call, guess, seed, trace).plan()


def in_panic(candidates: Iterable[Candidate], health: Health) -> list[Candidate]:
    """Everybody is ejected, so nobody is: whose last failure is the longest ago goes first."""
    return sorted(candidates, key=lambda one: health.of(one.deployment).last_failure_at)


class _Pool(Struct):
    """The candidates of one asked-for name on their way to an order; those of a canary go first."""

    group: Group
    policy: Policy
    candidates: list[Candidate]
    canary: list[Candidate]

    def all(self) -> list[Candidate]:
        return [*self.canary, *self.candidates]


class _Weighing(Struct):
    """One plan, while it is made. `trace` is always there: the error of an empty plan needs it, too."""

    request: Request
    catalog: Catalog
    health: Health
    call: Call | None
    guess: OutputGuess
    seed: int
    trace: Trace
    reserve: list[Candidate] = field(default_factory=list)
    slow: set[Candidate] = field(default_factory=set)
    """Who is known to be slower than the client prefers."""

    def plan(self) -> tuple[Candidate, ...]:
        pools = self._pools()
        self._permit(pools)
        wishes = self._wishes()
        taken: set[str] = set()
        for pool in pools:
            self._filter(pool)
            pool.canary = _untaken(pool.canary, taken)
            pool.candidates = _untaken(pool.candidates, taken)
        if not any(pool.all() for pool in pools):
            return self._nothing_left(pools)
        panic = self._without_ejected(pools)
        ordered = self._ordered(pools, wishes)
        if panic:
            return tuple(in_panic(ordered, self.health))
        return (*ordered, *self.reserve) if wishes.allow_fallbacks is not False else tuple(ordered)

    def _wishes(self) -> Preferences:
        return NOTHING if self.call is None or self.call.preferences is None else self.call.preferences

    # ── who there is ─────────────────────────────────────────────────────────────────────────────────────

    def _pools(self) -> list[_Pool]:
        """What each asked-for name leads to. Raises `NotFound`, and `Invalid` where nobody does the operation."""
        request, wishes = self.request, self._wishes()
        wanted = {request.model: "model"}
        for index, name in enumerate(request.models):
            wanted.setdefault(name, f"models[{index}]")
        pools: list[_Pool] = []
        for name, param in wanted.items():
            pool = self._pool(name, self.catalog.group(name, request.operation, param))
            if wishes.sort is not None:
                by = wishes.sort.by if isinstance(wishes.sort, SortBy) else wishes.sort
                pool.policy = _with(pool.policy, strategy=_SORTS[by])
            if wishes.sort is not None or wishes.order:  # the client's own order goes before the operator's canary
                pool.candidates, pool.canary = pool.all(), []
            self.trace.strategies[name] = pool.policy.strategy.value
            pools.append(pool)
        if not any(pool.all() for pool in pools):
            raise _cannot(request, [one for pool in pools for one in pool.group.source], self.catalog)
        return pools

    def _pool(self, name: str, group: Group) -> _Pool:
        """What the route of a name makes of this call: its rules, then its canary."""
        request, policy, operation = self.request, group.policy, self.request.operation
        own = group.candidates.get(operation, ())
        rule = rules.first(policy.rules, request, self.call) if policy.rules else None
        if rule is not None:
            self.trace.rules[name] = rule.name
            if rule.models is not None:
                own = _serving(group, rule.models, operation)
            policy = rules.changed(policy, rule)
        canary: tuple[Candidate, ...] = ()
        if policy.canary is not None and self._drawn(name, policy):
            canary = _serving(group, (policy.canary.model,), operation)
            self.trace.canaries[name] = policy.canary.model
        return _Pool(group, policy, list(own), list(canary))

    def _drawn(self, name: str, policy: Policy) -> bool:
        """Does this call go to the canary? A session's, or a user's, answer is always the same."""
        canary = policy.canary
        assert canary is not None, "asked only where there is one"
        key = 0
        if canary.by == "session":
            key = rules.stick("session", self.request, self.call) or rules.stick("user", self.request, self.call)
        number = draws.digest("canary", self.catalog.plain(name), canary.model, f"{key:x}") if key else self.seed
        return draws.uniform(number, -1 if key else 10_000) * 100 <= canary.percent

    def _permit(self, pools: list[_Pool]) -> None:
        """Takes out what the key may not use. Raises `Forbidden` where that is everything."""
        call = self.call
        if call is None or not permit.restricts(call.caller):
            return
        permit.check_operation(call)
        for pool in pools:
            for which in (pool.candidates, pool.canary):
                for one in tuple(which):
                    if not permit.may_use(call.caller, one, self.catalog):
                        which.remove(one)
                        self.trace.remove(one, eligibility.KEY, f"the key may not use {one.deployment.id}")
        if not any(pool.all() for pool in pools):
            raise permit.refusal(call.caller, self.request.model)

    def _filter(self, pool: _Pool) -> None:
        policy = pool.policy
        wanted = eligibility.needs(
            self.request,
            self.call,
            regions=policy.regions,
            tags=policy.with_tags,
            shortest=pool.group.context_tokens,
        )
        pool.candidates = eligibility.keep(pool.candidates, wanted, self.trace)
        pool.canary = eligibility.keep(pool.canary, wanted, self.trace)
        if not wanted.inputs <= TEXT:  # who is known to take pictures goes before those of whom nobody says
            for one in pool.candidates:
                if not one.deployment.inputs_known:
                    self.trace.moved[one] = "nobody has said what inputs it takes"
            pool.candidates.sort(key=lambda one: not one.deployment.inputs_known)

    def _without_ejected(self, pools: list[_Pool]) -> bool:
        """Takes out who is ejected, unless everybody is: that is told. Of those who only failed, half of all at most;
        the others are a reserve, to be tried last."""
        now = 0.0 if self.call is None else self.call.started
        everybody = [one for pool in pools for one in pool.all()]
        found = standing([self.health.of(one.deployment) for one in everybody], now)
        if found is None:
            return False
        if found.panic:
            self.trace.panic = True
            return True
        for place in found.removed:
            one = everybody[place]
            self.trace.remove(one, eligibility.EJECTED, f"is ejected: {self.health.ejected(one.deployment, now)}")
        self.reserve = [everybody[place] for place in found.reserve]
        for one in self.reserve:
            why = self.health.ejected(one.deployment, now)
            self.trace.moved[one] = f"is ejected ({why}), but no more than half may be left out"
        healthy = {everybody[place] for place in found.healthy}
        for pool in pools:
            pool.candidates = [one for one in pool.candidates if one in healthy]
            pool.canary = [one for one in pool.canary if one in healthy]
        return False

    # ── in which order ───────────────────────────────────────────────────────────────────────────────────

    def _ordered(self, pools: list[_Pool], wishes: Preferences) -> list[Candidate]:
        if isinstance(wishes.sort, SortBy) and wishes.sort.partition == "none":
            together = self._arranged(pools[0].policy, [one for pool in pools for one in pool.all()])
            return self._wished(together, wishes)
        found: list[Candidate] = []
        for pool in pools:
            led = [*self._arranged(pool.policy, pool.canary), *self._arranged(pool.policy, pool.candidates)]
            found += self._wished(led, wishes)
        if not wishes.order:  # a model that is fast enough goes before an earlier one that is not, as at OpenRouter
            found.sort(key=lambda one: one in self.slow)
        return found

    def _wished(self, candidates: list[Candidate], wishes: Preferences) -> list[Candidate]:
        """In the client's own order where it has one, and cut where it wants no fallbacks."""
        candidates = self._preferred(candidates, wishes)
        if wishes.order:
            order = eligibility.lower(wishes.order)
            candidates = sorted(candidates, key=lambda one: _rank(one, order))
        elif wishes.allow_fallbacks is False:
            for one in candidates[1:]:
                self.trace.remove(one, eligibility.FALLBACKS, "provider.allow_fallbacks is false")
            candidates = candidates[:1]
        return candidates

    def _arranged(self, policy: Policy, candidates: list[Candidate]) -> list[Candidate]:
        if not candidates:
            return []
        seen = situation.look(self.request, self.call, policy, self.health, self.guess, self.seed, self.trace)
        known = [one for one in candidates if one not in self.trace.moved]
        if len(known) == len(candidates) or not known:
            return strategies.arrange(policy.strategy, candidates, seen)
        others = [one for one in candidates if one in self.trace.moved]
        return [*strategies.arrange(policy.strategy, known, seen), *strategies.arrange(policy.strategy, others, seen)]

    def _preferred(self, candidates: list[Candidate], wishes: Preferences) -> list[Candidate]:
        """Those that are known to be slower than the client prefers go behind the others."""
        if wishes.preferred_max_latency is None and wishes.preferred_min_throughput is None:
            return candidates
        for one in candidates:
            slow = self._too_slow(one, wishes)
            if slow is not None:
                self.trace.moved[one] = slow
                self.slow.add(one)
        return sorted(candidates, key=lambda one: one in self.slow)

    def _too_slow(self, one: Candidate, wishes: Preferences) -> str | None:
        vitals = self.health.of(one.deployment)
        for share, most in bounds(wishes.preferred_max_latency):
            took_s = vitals.ttft_samples.percentile(share)
            if took_s is not None and took_s > most:
                return f"its p{share * 100:g} of the time to first content is {took_s:.3g} s, above {most:g}"
        for share, least in bounds(wishes.preferred_min_throughput):
            rate = vitals.rate_samples.percentile(1.0 - share)  # p90: nine calls of ten are at least so fast
            if rate is not None and rate < least:
                return f"its p{share * 100:g} of throughput is {rate:.3g} tokens/s, below {least:g}"
        return None

    # ── nothing left ─────────────────────────────────────────────────────────────────────────────────────

    def _nothing_left(self, pools: list[_Pool]) -> tuple[Candidate, ...]:
        """What a route keeps for requests that are too long for its own models, where that is what is wrong. Raises
        the error that says what took each candidate out."""
        removed = [one for one in self.trace.removed if one.code != eligibility.KEY]
        if all(one.code == eligibility.CONTEXT for one in removed):
            opened = [one for pool in pools for one in self._opened(pool)]
            if opened:
                return tuple(self._wished(opened, self._wishes()))
        raise _error(self.request, removed)

    def _opened(self, pool: _Pool) -> list[Candidate]:
        return fallbacks.opened(
            self.request, self.call, pool.group.name, pool.policy, CONTEXT_LENGTH, self.catalog, self.health, self.trace
        )


def _untaken(candidates: list[Candidate], taken: set[str]) -> list[Candidate]:
    """Those whose deployment, by its key, no name before this one has led to; they are taken now."""
    found = [one for one in candidates if one.deployment.key not in taken]
    taken.update([one.deployment.key for one in found])
    return found


def _with(policy: Policy, **changed: Any) -> Policy:
    return replace(policy, **changed)


def _serving(group: Group, models: Iterable[str], operation: Operation) -> tuple[Candidate, ...]:
    return tuple([one for model in models for one in group.led.get(model, ()) if operation in one.deployment.serves])


def _rank(one: Candidate, order: tuple[str, ...]) -> int:
    """Its place on the client's list; behind all of them where it is not there."""
    if one.names.isdisjoint(order):
        return len(order)
    return next(place for place, name in enumerate(order) if name in one.names)


def _cannot(request: Request, served: list[Deployment], catalog: Catalog) -> Invalid:
    """The error that says what the model does do, and who does what was asked for."""
    operation = request.operation
    does = sorted({done.value for deployment in served for done in deployment.serves})
    able = [name for name, found in catalog.served.items() if any(operation in one.serves for one in found)]
    more = f", and {len(able) - _MOST_NAMES} more" if len(able) > _MOST_NAMES else ""
    others = f"models for it: {', '.join(able[:_MOST_NAMES])}{more}" if able else "no model here does"
    return Invalid(
        f"The model '{request.model[:200]}' does {', '.join(does)}, not {operation.value}; {others}.",
        code="model_not_supported",
        param="model",
    )


def _error(request: Request, removed: list[Removed]) -> GatewayError:
    """Why nobody is left, in words for whoever asked."""
    # A model with several credentials is told once where the same took all of them out.
    each: dict[tuple[str, str, str], Removed] = {}
    for one in removed:
        each.setdefault((one.candidate.deployment.id, one.code, one.words), one)
    removed = [*each.values()]
    account = [{"model": one.candidate.deployment.id, "filter": one.code, "reason": one.words} for one in removed]
    codes = {one.code for one in removed}
    told = "; ".join(f"{one.candidate.deployment.id} {one.words}" for one in removed[:_MOST_NAMES])
    if len(removed) > _MOST_NAMES:
        told += f"; and {len(removed) - _MOST_NAMES} more"
    metadata = {"removed": account}
    if not codes <= eligibility.CAPABILITIES:
        message = f"No deployment of '{request.model[:200]}' meets what is demanded of its route: {told}."
        if all(one.wished or one.code in eligibility.CAPABILITIES for one in removed):
            return Invalid(message, code=NoRoute.default_code, param="provider", metadata=metadata)
        return NoRoute(message, metadata=metadata)
    if codes == {eligibility.PARAMETERS}:
        words = removed[0].words
        return Invalid(
            f"{removed[0].candidate.deployment.id} {words}. Leave it out, or do not be strict.",
            code="unsupported_parameter",
            param=words.split("'")[1],
            metadata=metadata,
        )
    if codes == {eligibility.CONTEXT}:
        return Invalid(
            f"This is too long for '{request.model[:200]}': {told}.",
            code="context_length_exceeded",
            param="messages",
            metadata=metadata,
        )
    return Invalid(
        f"No deployment of '{request.model[:200]}' can do what is asked for: {told}.",
        code="model_not_supported",
        param=_PARAMS.get(removed[0].code, "model"),
        metadata=metadata,
    )


_PARAMS: Final = {
    eligibility.INPUTS: "messages",
    eligibility.TOOLS: "tools",
    eligibility.JSON_SCHEMA: "response_format",
}
