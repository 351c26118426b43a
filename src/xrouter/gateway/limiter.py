"""Admits calls under their callers' limits, out of slices that this process holds. Pure: no waiting, no network.

A slice is a number of units of one counter that was drawn in advance: while it lasts, a call costs a few comparisons
and subtractions. All of a call's limits are checked before any is written, so a refused call has used nothing.
Slices come from `near` (the counters of this host) or, where several nodes count together and can, from `shared`.
What is not used soon goes back (`tick`), and at once when somebody else asks for it (`recalled`).
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from weakref import WeakValueDictionary

from xrouter.core.call import Caller
from xrouter.core.clock import Clock
from xrouter.core.gcra import PART, RUNNING_WAIT_S, suffices
from xrouter.core.globs import matches
from xrouter.core.limits import Draw, Grant, Hold, Level, Limit, Unit, no_units
from xrouter.core.ports import Counters, SharedCounters
from xrouter.gateway import limit_words

TICK_S: Final = 0.1
"""How often unused units go back; a slice lasts about that long."""

ASK_AGAIN_S: Final = 0.05
"""Shared counters that just said that requests are used up are not asked again before."""

ASK_SOON_S: Final = 0.005
"""The same for what comes back when calls end: tokens, and running calls."""

RECALL_WAIT_S: Final = 0.03
"""How long other processes get to give back what they do not use, before a call is refused."""

RECALL_AGAIN_S: Final = 0.05
LONGEST_RECALL_S: Final = 1.0
"""How often they are asked for it; twice as long after each time that was in vain."""

LEASE_S: Final = 10.0
"""What a process says that it holds of a concurrency is believed for so long by shared counters."""

_RENEW_S: Final = 2.0
_MOST_CALLERS: Final = 10_000
_MOST_MODELS: Final = 256

MOST_NAMED: Final = 8_192
"""Limits of end users and tags that stay compiled in one process, of all callers and in all plans: about 11 MB."""

MOST_OWED: Final = 10_000
"""Of so many counters that nobody uses any more it is kept what is owed to shared counters that are away."""


class Hand:
    """This process's slice of one counter.

    `have` units are free to use, below 0 they are owed; `running` are in use by calls that run now. `used` counts since
    the last tick, `want` is what a tick uses, and below `low` more is fetched beside the path. `free` is what the
    counter had left for everybody at the time `at`; of a slice `keep` is not given back with what a call leaves over.
    """

    __slots__ = (
        "__weakref__", "amount", "at", "each_s", "fetching", "free", "have", "keep", "limit", "low", "most", "name",
        "recall_s", "recalled_at", "running", "used", "want",
    )  # fmt: skip

    def __init__(self, limit: Limit) -> None:
        self.name = limit.counter
        self.have = 0.0
        self.running = 0
        self.used = 0.0
        self.want = 0.0
        self.low = 0.0
        self.keep = 0.0
        self.at = self.recalled_at = float("-inf")
        self.recall_s = RECALL_AGAIN_S
        self.fetching = False
        self.take(limit)
        self.free = float(self.amount)

    def take(self, limit: Limit) -> None:
        """The limit as it stands now: the same counter may get another amount."""
        self.limit = limit
        self.amount = max(0, limit.amount)
        self.most = max(1, self.amount)  # a call that is larger than all of it needs all of it
        self.have = min(self.have, self.amount)
        self.each_s = limit.window_s / self.amount if self.amount else float(limit.window_s)

    def held(self) -> int:
        return int(self.have) + self.running

    def left(self, now: float) -> float:
        """About what is left for everybody who shares the counter."""
        amount = self.amount
        if not amount:
            return 0.0
        left = self.have + self.free
        if self.each_s:
            left += (now - self.at) / self.each_s
        return 0.0 if left < 0 else amount if left > amount else left

    def draw(self, need: float = 0.0, back: float = 0.0) -> Draw:
        limit = self.limit
        running = limit.unit is Unit.CONCURRENT
        want = 0.0 if limit.exact else self.want
        return Draw(self.name, self.amount, 0 if running else limit.window_s, need, want, back,
                    self.held if running else no_units)  # fmt: skip


class Decided(Protocol):
    """Whoever waits for shared counters."""

    @property
    def waits(self) -> bool:
        """False for a call that was given up meanwhile: nothing is used for it."""
        ...

    def __call__(self, refusal: "Refusal | None") -> None: ...


class Plan:
    """The hands that count a call of one caller for one model. `ones` count each call as one unit."""

    __slots__ = ("by_model", "hands", "ones", "requests", "running", "tokens")

    def __init__(self, hands: tuple[Hand, ...]) -> None:
        self.hands = hands
        self.by_model = any(hand.limit.model is not None for hand in hands)
        self.ones = tuple(hand for hand in hands if hand.limit.unit is not Unit.TOKENS)
        self.requests = tuple(hand for hand in hands if hand.limit.unit is Unit.REQUESTS)
        self.running = tuple(hand for hand in hands if hand.limit.unit is Unit.CONCURRENT)
        self.tokens = tuple(hand for hand in hands if hand.limit.unit is Unit.TOKENS)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The limit that lets the call wait longest, and for how long."""

    limit: Limit
    wait_s: float


class _Known:
    """What was compiled for one caller. `always` is the plan where no limit is for certain models only; `users` and
    `tags` are its limits for each of them, and `by_model` says whether any limit at all is for certain models."""

    __slots__ = ("always", "by_model", "each", "hands", "limits", "plans", "tags", "users")

    def __init__(self, caller: Caller, hands: tuple[Hand, ...]) -> None:
        self.limits = limits = caller.limits
        self.each = each = caller.each
        self.hands = hands
        self.always = Plan(hands) if all(limit.model is None for limit in limits) else None
        self.users = tuple(limit for limit in each if limit.level is Level.END_USER)
        self.tags = tuple(limit for limit in each if limit.level is Level.TAG)
        self.by_model = any(limit.model is not None for limit in (*limits, *each))
        self.plans: dict[str | tuple[str, ...], Plan] = {}


_Named = tuple[str, str | None, tuple[str, ...], str | tuple[str, ...]]
"""Key, end user, tags, models: as far as there are limits for them."""


class Limiter:
    """One for each process. `on_urgent` is called when something should go back before the next tick."""

    def __init__(self, near: Counters, clock: Clock, shared: SharedCounters | None = None) -> None:
        self._near = near
        self._clock = clock
        self.shared = shared
        self.on_urgent: Callable[[], None] = _nothing
        self._hands: WeakValueDictionary[str, Hand] = WeakValueDictionary()
        self._known: dict[str, _Known] = {}
        self._named: OrderedDict[_Named, tuple[_Known, Plan, int]] = OrderedDict()  # the last one used at the end
        self._compiled = 0
        self._active: set[Hand] = set()
        self._urgent: set[Hand] = set()
        self._owing: OrderedDict[Hand, None] = OrderedDict()
        self._shared = self.shares
        if shared is not None:
            shared.on_back = self._tell

    # ── which limits count a call ────────────────────────────────────────────────────────────────────────

    def plan(
        self,
        caller: Caller,
        models: str | tuple[str, ...],
        names: Callable[[str | tuple[str, ...]], Sequence[str]],
        end_user: str | None = None,
        tags: tuple[str, ...] = (),
    ) -> Plan:
        """The hands for a call of `caller` that asks for `models`, for an end user and under some tags. `names` gives
        all ids that the models may mean; it is asked once for each caller and model, and only where a limit is for
        certain models."""
        known = self._known.get(caller.key_id)
        if (
            known is None
            or (known.limits is not caller.limits and known.limits != caller.limits)
            or (known.each is not caller.each and known.each != caller.each)
        ):
            known = self._learn(caller)
        if known.each and ((end_user is not None and known.users) or (tags and known.tags)):
            return self._plan_named(caller, known, models, names, end_user, tags)
        if known.always is not None:
            return known.always
        plan = known.plans.get(models)
        if plan is None:
            if len(known.plans) >= _MOST_MODELS:  # clients may ask for any name
                known.plans.clear()
            asked = names(models)
            plan = known.plans[models] = Plan(tuple(hand for hand in known.hands if _counts(hand.limit.model, asked)))
        return plan

    def _plan_named(
        self,
        caller: Caller,
        known: _Known,
        models: str | tuple[str, ...],
        names: Callable[[str | tuple[str, ...]], Sequence[str]],
        end_user: str | None,
        tags: tuple[str, ...],
    ) -> Plan:
        named = (
            caller.key_id,
            end_user if known.users else None,
            tags if known.tags else (),
            models if known.by_model else "",
        )
        found = self._named.get(named)
        if found is not None and found[0] is known:
            self._named.move_to_end(named)
            return found[1]
        hands = list(known.hands)
        if end_user is not None:
            hands += [self._hand(limit.for_name(end_user)) for limit in known.users]
        for tag in tags:
            hands += [self._hand(limit.for_name(tag)) for limit in known.tags]
        if known.by_model:
            asked = names(models)
            hands = [hand for hand in hands if _counts(hand.limit.model, asked)]
        plan = Plan(tuple(hands))
        if found is not None:
            self._compiled -= self._named.pop(named)[2]
        size = len(known.users) + len(tags) * len(known.tags)
        self._named[named] = known, plan, size
        self._compiled += size
        while self._compiled > MOST_NAMED and len(self._named) > 1:
            self._compiled -= self._named.popitem(last=False)[1][2]
        return plan

    def _learn(self, caller: Caller) -> _Known:
        while len(self._known) >= _MOST_CALLERS:
            del self._known[next(iter(self._known))]
        own = {limit.counter: limit for limit in caller.limits}
        known = self._known[caller.key_id] = _Known(caller, tuple(map(self._hand, own.values())))
        return known

    def _hand(self, limit: Limit) -> Hand:
        hand = self._hands.get(limit.counter)
        if hand is None:
            hand = self._hands[limit.counter] = Hand(limit)
        elif hand.limit != limit:
            hand.take(limit)
        return hand

    # ── admission ────────────────────────────────────────────────────────────────────────────────────────

    def take(self, plan: Plan, tokens: int) -> bool:
        """Use one request and `tokens` tokens if the slices in hand suffice; else nothing is used, and False."""
        for hand in plan.ones:
            if hand.have < 1:
                return False
        for hand in plan.tokens:
            if hand.have < tokens and hand.have < hand.most:
                return False
        self._use(plan, tokens)
        return True

    def _use(self, plan: Plan, tokens: int) -> None:
        for hand in plan.ones:
            hand.have -= 1
            hand.used += 1
            if hand.have < hand.low:
                self._fetch(hand)
        for hand in plan.tokens:
            hand.have -= tokens
            hand.used += tokens
            if hand.have < hand.low:
                self._fetch(hand)
        for hand in plan.running:
            hand.running += 1

    def take_near(self, plan: Plan, tokens: int) -> Refusal | None:
        """Draw from this host's counters what is missing, and use it. None: admitted."""
        draws, hands = self.missing(plan, tokens)
        grants = self._near.exchange(draws)
        self._put_near(hands, draws, grants)
        refusal = _refused(hands, grants)
        if refusal is None:
            self._use(plan, tokens)
        return refusal

    def ask(self, plan: Plan, tokens: int, draws: Sequence[Draw], hands: Sequence[Hand], decided: "Decided") -> None:
        """The same from shared counters, or from this host's where those cannot be asked in time. The call is decided,
        and what it uses is used, in the moment in which the answer comes: no other call can be faster."""

        def then(grants: list[Grant] | None) -> None:
            if grants is not None:
                self.put_shared(hands, draws, grants)
            if not decided.waits:
                return
            if grants is None:
                decided(self.take_near(plan, tokens))
                return
            refusal = _refused(hands, grants)
            if refusal is None:
                self._use(plan, tokens)
            decided(refusal)

        assert self.shared is not None, "somebody to ask"
        self.shared.exchange(draws, then)

    def missing(self, plan: Plan, tokens: int) -> tuple[list[Draw], list[Hand]]:
        """What must be drawn before the call can be admitted. Of an exact limit nothing is in hand."""
        draws: list[Draw] = []
        hands: list[Hand] = []
        for hand in plan.hands:
            cost = 1 if hand.limit.unit is not Unit.TOKENS else min(tokens, hand.most)
            need = cost if hand.limit.exact and self.shares else cost - hand.have
            if need > 0:
                draws.append(hand.draw(need))
                hands.append(hand)
        return draws, hands

    def surely_refused(self, hands: Sequence[Hand], draws: Sequence[Draw]) -> Refusal | None:
        """Is one of these known to be used up, by an answer so fresh that nobody need be asked again?"""
        now = self._clock.monotonic()
        found: Refusal | None = None
        for hand, draw in zip(hands, draws, strict=True):
            if now - hand.at >= (ASK_AGAIN_S if hand.limit.unit is Unit.REQUESTS else ASK_SOON_S):
                continue
            free = hand.free + ((now - hand.at) / hand.each_s if hand.each_s else 0.0)
            if not suffices(free, draw.need, hand.each_s):
                wait_s = (draw.need - free) * hand.each_s or RUNNING_WAIT_S
                if found is None or wait_s > found.wait_s:
                    found = Refusal(hand.limit, wait_s)
        return found

    @property
    def shares(self) -> bool:
        """Whether several nodes count together at present."""
        return self.shared is not None and not self.shared.away

    def put(self, hands: Sequence[Hand], draws: Sequence[Draw], grants: Sequence[Grant]) -> None:
        """Take what was granted into the hands."""
        now = self._clock.monotonic()
        for hand, draw, grant in zip(hands, draws, grants, strict=True):
            hand.have += grant.given
            hand.free = grant.free
            hand.at = now
            hand.keep = grant.given if grant.given > draw.need else 0.0
            self._active.add(hand)

    def _put_near(self, hands: Sequence[Hand], draws: Sequence[Draw], grants: Sequence[Grant]) -> None:
        self.put(hands, draws, grants)
        if self.shared is not None:
            for hand in hands:
                if hand.limit.window_s:
                    self._owe(hand)
            if self.shares:  # only this once they did not answer
                self._tell_owed()

    def put_shared(self, hands: Sequence[Hand], draws: Sequence[Draw], grants: Sequence[Grant]) -> None:
        """The same for what came from shared counters; this host knows it too, so that it can take over."""
        self.put(hands, draws, grants)
        for hand, owes in zip(hands, self._near.follow(draws, grants), strict=True):
            if owes:
                self._owe(hand)

    # ── the end of a call ────────────────────────────────────────────────────────────────────────────────

    def settle(self, plan: Plan, reserved: int, used: int) -> None:
        """A call that was admitted has ended: it runs no more, and it used so many tokens instead of `reserved`.

        What is left over goes back at once, so that nobody is refused for what nobody uses; unless this process is the
        only one: then the tick is soon enough."""
        alone = self.shared is None and self._near.alone
        for hand in plan.running:
            hand.running -= 1
            hand.have += 1
            if hand.have > hand.keep and not alone:
                self._give_soon(hand)
        for hand in plan.tokens:
            hand.have += reserved - used
            self._active.add(hand)
            if hand.have < 0 or (hand.have > hand.keep and not alone):
                self._give_soon(hand)

    def refund(self, plan: Plan, reserved: int) -> None:
        """A call that was admitted was refused before anything was done for it: it used nothing."""
        self.settle(plan, reserved, 0)
        alone = self.shared is None and self._near.alone
        for hand in plan.requests:
            hand.have += 1
            self._active.add(hand)
            if hand.have > hand.keep and not alone:
                self._give_soon(hand)

    def _give_soon(self, hand: Hand) -> None:
        """What is too much, or owed, goes to the counters: to this host's at once, to shared ones beside the path."""
        if self.shares and hand.limit.exact:
            self._give(hand, hand.have)
        elif self.shares:
            self._active.add(hand)
            self._urgent.add(hand)
            self.on_urgent()
        elif hand.limit.unit is Unit.CONCURRENT:  # says only what is held, and asks for nothing
            hand.free += hand.have - hand.keep
            hand.have = hand.keep
            self._near.hold(hand.draw())
        else:
            self._give(hand, hand.have - hand.keep if hand.have > 0 else hand.have)

    # ── beside the path ──────────────────────────────────────────────────────────────────────────────────

    @property
    def active(self) -> int:
        """Counters of which this process holds something."""
        return len(self._active)

    def tick(self) -> None:
        """Give back what the last tick did not use, and debts; renew what is held of concurrencies."""
        now, shares = self._clock.monotonic(), self.shares
        renew_s = _RENEW_S if shares == self._shared else 0.0  # who counts from now on knows nothing of what runs
        self._shared = shares
        if shares and self._owing:
            self._tell_owed()
        for hand in tuple(self._active):
            hand.want = max(hand.used, hand.want / 2) if hand.used else 0.0
            hand.low = hand.want / 2 if shares and not hand.limit.exact else 0.0
            spare = hand.have - (0.0 if hand.limit.exact else 2 * hand.want)
            back = max(0, int(spare)) if hand.want else max(0.0, spare)  # of what is not used no part stays
            hand.used = 0.0
            stale = hand.limit.unit is Unit.CONCURRENT and hand.held() > 0 and now - hand.at >= renew_s
            if hand.have < 0:
                self._give(hand, hand.have)
            elif back or stale:
                self._give(hand, back)
            elif not (hand.have or hand.running or hand.want or hand.fetching):
                self._active.discard(hand)
        self._urgent.clear()

    def hurry(self) -> None:
        """Give now what cannot wait for the tick."""
        for hand in tuple(self._urgent):
            spare = hand.have - max(hand.keep, hand.want)
            if hand.have < 0:
                self._give(hand, hand.have)
            elif spare > 0:
                self._give(hand, spare)
        self._urgent.clear()

    def recalled(self, counter: str) -> None:
        """Another process lacks what this one may hold: all that is not in use goes back now. Without a name: of
        everything, messages may have been lost."""
        hand = self._hands.get(counter) if counter else None
        for one in (hand,) if hand is not None else tuple(self._active) if not counter else ():
            if one.have > 0:
                self._give(one, one.have)

    def close(self) -> None:
        """Nothing runs any more: everything goes back."""
        for hand in tuple(self._active):
            if hand.have:
                self._give(hand, hand.have)

    def headers(self, plan: Plan) -> list[tuple[bytes, bytes]]:
        """What is left, of requests and of tokens where they are limited: the limit with the least left speaks."""
        now = self._clock.monotonic()
        found: list[tuple[bytes, bytes]] = []
        if plan.requests:
            found += _headers(limit_words.REQUESTS, plan.requests, now)
        if plan.tokens:
            found += _headers(limit_words.TOKENS, plan.tokens, now)
        return found

    def recall(self, hands: Sequence[Hand]) -> float:
        """Ask the others for what they do not use of these. How many seconds to wait for it; 0 where it was in vain a
        moment ago."""
        now = self._clock.monotonic()
        wait_s = 0.0
        wanted: list[str] = []
        for hand in hands:
            since_s = now - hand.recalled_at
            if since_s < RECALL_WAIT_S:
                wait_s = max(wait_s, RECALL_WAIT_S - since_s)
            elif since_s >= hand.recall_s:
                hand.recalled_at = now
                hand.recall_s = min(2 * hand.recall_s, LONGEST_RECALL_S)
                wanted.append(hand.name)
                wait_s = RECALL_WAIT_S
        if wanted and self.shared is not None:
            self.shared.recall(wanted)
        return wait_s

    def recall_helped(self, hands: Sequence[Hand]) -> None:
        """It was not in vain."""
        for hand in hands:
            hand.recall_s = RECALL_AGAIN_S

    def _give(self, hand: Hand, back: float) -> None:
        hand.have -= back
        draws = [hand.draw(back=back)]
        draws[0].want = 0.0
        if not self.shares or self.shared is None:
            self._put_near([hand], draws, self._near.exchange(draws))
            return

        def then(grants: list[Grant] | None) -> None:
            if grants is not None:
                self.put_shared([hand], draws, grants)
            elif back < 0:
                hand.have += back  # a debt is not forgotten; what was too much is, for it may have arrived

        self.shared.exchange(draws, then)

    def _owe(self, hand: Hand) -> None:
        """This host gave of it by itself: shared counters will be told."""
        if hand not in self._owing:
            self._owing[hand] = None
            if len(self._owing) > MOST_OWED:
                self._owing.popitem(last=False)

    def _tell_owed(self) -> None:
        assert self.shared is not None, "somebody to tell"
        draws = [hand.draw() for hand in self._owing]
        self._owing.clear()
        for draw, units in zip(draws, self._near.untold(draws), strict=True):
            draw.back = -units
        if told := [draw for draw in draws if draw.back]:
            self.shared.tell(told)

    def _tell(self) -> None:
        """Shared counters are back: they learn what was used without them, and what runs, before they are asked."""
        assert self.shared is not None, "they are back"
        self._tell_owed()
        running = [hand.draw() for hand in self._active if hand.limit.unit is Unit.CONCURRENT and hand.held()]
        if running:
            self.shared.tell(running)

    def _fetch(self, hand: Hand) -> None:
        """More of what is running low, beside the path; what is owed is told."""
        if hand.have < 0:
            self._give_soon(hand)
        shared = self.shared
        now = self._clock.monotonic()
        if hand.fetching or shared is None or shared.away:
            return
        if now - hand.at < ASK_AGAIN_S and hand.free * PART < 1:
            return  # nothing is given in advance any more
        hand.fetching = True
        draws = [hand.draw(need=0.0)]

        def then(grants: list[Grant] | None) -> None:
            hand.fetching = False
            if grants is not None:
                self.put_shared([hand], draws, grants)

        shared.exchange(draws, then)


class Held(Hold):
    """The port `Hold`: one call's part of what its plan counts."""

    __slots__ = ("_limiter", "_plan", "_settled", "_tokens")

    def __init__(self, limiter: Limiter, plan: Plan, tokens: int) -> None:
        self._limiter = limiter
        self._plan = plan
        self._tokens = tokens
        self._settled = False

    @property
    def by_model(self) -> bool:
        return self._plan.by_model

    def settle(self, tokens: int, reached: Sequence[str] = ()) -> None:
        if self._settled:
            return
        self._settled = True
        plan = self._plan
        if reached and plan.by_model:
            missed = tuple(hand for hand in plan.hands if not _counts(hand.limit.model, reached))
            if missed:
                self._limiter.refund(Plan(missed), self._tokens)
                plan = Plan(tuple(hand for hand in plan.hands if hand not in missed))
        self._limiter.settle(plan, self._tokens, tokens)

    def refund(self) -> None:
        if not self._settled:
            self._settled = True
            self._limiter.refund(self._plan, self._tokens)

    def headers(self) -> list[tuple[bytes, bytes]]:
        return self._limiter.headers(self._plan)


def _refused(hands: Sequence[Hand], grants: Sequence[Grant]) -> Refusal | None:
    refused = [Refusal(hand.limit, grant.wait_s) for hand, grant in zip(hands, grants, strict=True) if grant.wait_s]
    return max(refused, key=lambda one: one.wait_s) if refused else None


def _headers(names: limit_words.Names, hands: Sequence[Hand], now: float) -> tuple[tuple[bytes, bytes], ...]:
    """The limit with the least left speaks."""
    tightest = hands[0]
    left = tightest.left(now)
    for hand in hands[1:]:
        other = hand.left(now)
        if other < left:
            tightest, left = hand, other
    full_in_s = (tightest.amount - left) * tightest.each_s
    return (
        (names[0], b"%d" % tightest.amount),
        (names[1], b"%d" % (left + 1e-6)),
        (names[2], limit_words.duration(full_in_s).encode()),
    )


def _counts(glob: str | None, names: Sequence[str]) -> bool:
    return glob is None or any(matches(glob, name) for name in names)


def _nothing() -> None:
    """Nobody waits for urgent things: everything goes with the tick."""
