"""How models are routed: `routes:` and `routing:` of the operator's file, checked and made into `core.policy`.

What can never have an effect is refused here, with its place: a rule that can never hold, a weight that nobody reads.
Whether names lead anywhere is seen where all of the file is known (`settings/draft.py`, `gateway/catalog.py`).
"""

from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from xrouter.core.conditions import implies, parse
from xrouter.core.policy import (
    CONTENT_POLICY,
    CONTEXT_LENGTH,
    STICKY_BY,
    WEIGHING,
    Canary,
    Policy,
    Rule,
    StickyBy,
    Strategy,
)
from xrouter.settings.beside import BesideSettings
from xrouter.settings.strict import Strict


def _known_strategy(value: object) -> object:
    if isinstance(value, str) and value not in set(Strategy):
        near = get_close_matches(value, [one.value for one in Strategy], 1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{value!r} is no strategy{guess}; strategies: {', '.join(Strategy)}")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Strategy = Annotated[Strategy, BeforeValidator(_known_strategy)]
Region = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]{0,31}$")]
_Word = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.:-]{0,31}$")]
Regions = Annotated[frozenset[Region], BeforeValidator(_as_list), Field(min_length=1)]
Tags = Annotated[frozenset[_Word], BeforeValidator(_as_list)]
_Models = Annotated[list[str], Field(min_length=1)]
_Sticky = Annotated[list[StickyBy], BeforeValidator(_as_list), Field(min_length=1)]


class RuleSettings(Strict):
    """Changes a route for the calls that its condition holds for. The first rule that holds is the only one."""

    name: str | None = Field(None, description="For whoever asks why. Unset: its number.")
    when: dict[str, Any] = Field(
        description="Facts of a request and what they must be, all of them: `{tags: batch, prompt_tokens: {gt: 8000}}`."
    )
    models: _Models | None = Field(None, description="Instead of the route's models.")
    strategy: _Strategy | None = Field(None, description="Instead of the route's.")
    regions: Regions | None = Field(None, description="Where data may be processed, within what the route allows.")
    with_tags: Tags = Field(frozenset(), description="Only deployments that have all of these tags.")

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        try:
            parse(self.when)
        except ValueError as error:
            raise ValueError(f"when: {error}") from None
        if not (self.models or self.strategy or self.regions or self.with_tags):
            raise ValueError("changes nothing; give models, strategy, regions or with_tags")
        return self

    def rule(self, number: int) -> Rule:
        """The same as the word of the core."""
        return Rule(
            self.name or f"rule {number}",
            parse(self.when),
            None if self.models is None else tuple(self.models),
            self.strategy,
            self.regions,
            self.with_tags,
        )


class CanarySettings(Strict):
    """A model that gets a share of the calls."""

    model: str = Field(description="Gets its share first; the route's own models take over where it fails.")
    percent: float = Field(gt=0, lt=100, description="Of the calls.")
    by: Literal["session", "call"] = Field(
        "session",
        description="A session (or user, where there is none) stays where it is; or each call is drawn by itself.",
    )


class FallbackSettings(Strict):
    """Models that a class of failure opens, beside the route's own."""

    context_length: list[str] = Field(default_factory=list, description="The request is too long for the others.")
    content_policy: list[str] = Field(default_factory=list, description="A vendor's content policy refuses it.")


class RouteSettings(BesideSettings):
    """The route of one name: an alias with a strategy and rules, or of a model's own id."""

    models: list[str] = Field(
        default_factory=list, description="Model ids, in the order of trial. Unset: the model of the route's own name."
    )
    strategy: _Strategy | None = Field(
        None, description="Unset: what weights or sticky ask for, else that of `routing`."
    )
    weights: dict[str, Annotated[float, Field(gt=0, le=1_000_000)]] = Field(
        default_factory=dict, description="Model id -> weight, above 0; 1 where none is given."
    )
    sticky: _Sticky | None = Field(
        None, description="What a choice sticks to, the first that a request has: session, user, prompt. Unset: all."
    )
    regions: Regions | None = Field(
        None, description="Where data may be processed; who has no region is out. Unset: anywhere."
    )
    with_tags: Tags = Field(frozenset(), description="Only deployments that have all of these tags.")
    rules: list[RuleSettings] = Field(default_factory=list, description="Changes for some calls, the first that holds.")
    canary: CanarySettings | None = None
    fallbacks: FallbackSettings = Field(default_factory=FallbackSettings)
    continuation: bool | None = Field(
        None, description="Another deployment goes on with an answer that breaks off. Unset: as `routing` says."
    )

    @model_validator(mode="after")
    def _is_heard(self) -> Self:
        for number, model in enumerate(self.models):
            if model in self.models[:number]:
                raise ValueError(f"models: {model} stands twice")
        strategies = {self.strategy or self._implied, *(rule.strategy for rule in self.rules)} - {None}
        if self.weights and strategies.isdisjoint(WEIGHING):
            raise ValueError(f"weights: are read by {', '.join(sorted(WEIGHING))} only")
        if self.sticky is not None and Strategy.STICKY not in strategies:
            raise ValueError("sticky: belongs to the strategy 'sticky'")
        led = {*self.models, *(model for rule in self.rules for model in rule.models or ())}
        for model in self.weights:
            if led and model not in led:
                raise ValueError(f"weights: {model} is not among the models")
        if self.canary is not None and self.canary.model in self.models:
            raise ValueError(f"canary: {self.canary.model} is among the models; take it out there")
        self._check_rules()
        return self

    def _check_rules(self) -> None:
        conditions = [parse(rule.when) for rule in self.rules]
        for number, condition in enumerate(conditions):
            for earlier, other in enumerate(conditions[:number]):
                if implies(condition, other):
                    raise ValueError(f"rules.{number}: is never reached: whenever it holds, rules.{earlier} does")

    @property
    def _implied(self) -> Strategy | None:
        if self.sticky is not None:
            return Strategy.STICKY
        return Strategy.WEIGHTED if self.weights else None

    def policy(self, usual: "RoutingSettings") -> Policy:
        """The same as the word of the core; what is not said here is as `usual` has it."""
        regions = self.regions
        if usual.regions is not None:
            regions = usual.regions if regions is None else regions & usual.regions
        opened = {CONTEXT_LENGTH: self.fallbacks.context_length, CONTENT_POLICY: self.fallbacks.content_policy}
        return Policy(
            strategy=self.strategy or self._implied or usual.strategy,
            models=tuple(self.models),
            weights=self.weights,
            sticky=tuple(self.sticky or usual.sticky or STICKY_BY),
            regions=regions,
            with_tags=self.with_tags,
            rules=tuple(rule.rule(number) for number, rule in enumerate(self.rules)),
            canary=None if self.canary is None else Canary(self.canary.model, self.canary.percent, self.canary.by),
            fallbacks={kind: tuple(models) for kind, models in opened.items() if models},
            continues=usual.continuation if self.continuation is None else self.continuation,
        )


class RoutingSettings(Strict):
    """What holds for every model and alias without a route of its own, and for what a route does not say."""

    strategy: _Strategy = Field(Strategy.PRIORITY, description="The order of several deployments of one name.")
    sticky: _Sticky | None = Field(None, description="As in a route, for the strategy `sticky`.")
    regions: Regions | None = Field(
        None, description="Where data may be processed, by any route; who has no region is out. Unset: anywhere."
    )
    continuation: bool = Field(True, description="Another deployment goes on with an answer that breaks off.")

    def policy(self) -> Policy:
        """The same as the word of the core."""
        return Policy(
            strategy=self.strategy,
            sticky=tuple(self.sticky or STICKY_BY),
            regions=self.regions,
            continues=self.continuation,
        )
