"""The models this gateway serves: ids, aliases, routes, and the deployments behind them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

import msgspec

from xrouter.core.deployment import Deployment
from xrouter.core.errors import NotFound
from xrouter.core.operation import Operation
from xrouter.core.policy import USUAL, Policy, Strategy
from xrouter.gateway import group, rules, variants
from xrouter.gateway.group import Group

FaultHint = Callable[[str], str | None]


def _any_fault(name: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Catalog:
    """`served` maps every id a client may ask for to its deployments, in the order they are tried.

    An unknown model becomes the operation's own of `default_models`, or `default_model` where that can do it.

    `simulated` says that the upstreams are our simulators: then `id+fault` asks for `id` with that fault, and
    `fault_hint` gives None for a fault that they know, words for any other.

    `policies` are the routes by name, `usual` is that of every other name; `ids` are the names that are models' own.
    `groups` is filled with what is precomputed of each name, when it is asked for first, `choices` with what
    `gateway/decide.py` wants of it. `revision` names the
    configuration that it was made of (`configuration/picture.py`).
    """

    served: Mapping[str, tuple[Deployment, ...]]
    default_model: str | None = None
    simulated: bool = False
    fault_hint: FaultHint = _any_fault
    default_models: Mapping[Operation, str] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    usual: Policy = USUAL
    ids: frozenset[str] = frozenset()
    revision: str = ""
    groups: dict[str, Group] = field(default_factory=dict, compare=False, repr=False)
    choices: dict[str, object] = field(default_factory=dict, compare=False, repr=False)

    def group(self, model: str, operation: Operation = Operation.CHAT, param: str = "model") -> Group:
        """What is known of the name `model`, or of the operation's default model where one is set and `model` is
        unknown. A variant (`:floor`) is a group of its own, and so is a simulated fault.

        Raises `NotFound` that lists near names; `param` is the request field that named the model.
        """
        found = self.groups.get(model)
        if found is not None and found.source is self.served.get(found.base):
            return found
        base, strategy = self._meant(model)
        if base in self.served:
            made = self.groups[model] = self._group(model, base, self.served[base], strategy)
            return made
        if self.simulated and "+" in base:
            return self._group(model, base.partition("+")[0], self._faulty(base, param), strategy)
        served = self.deployments(model, operation, param)
        default = self._default(operation)
        assert default is not None, "else nobody is served"
        return self._group(model, default, served, strategy)

    def unknown(self, names: Iterable[str]) -> frozenset[str]:
        """Those of `names`, in lower case, that are no provider's and no model's."""
        left = frozenset(names)
        for found in self.served.values():
            for one in found:
                if not left:
                    return left
                left -= group.names_of(one)
        return left

    def _meant(self, model: str) -> tuple[str, Strategy | None]:
        """The id, and the order that its variant asks for. What is served under the whole name has no variant."""
        return (model, None) if model in self.served else variants.split(model)

    def plain(self, model: str) -> str:
        """The name without variant and simulated fault."""
        base, _ = self._meant(model)
        return base.partition("+")[0] if self.simulated and base not in self.served else base

    def _group(self, name: str, base: str, source: tuple[Deployment, ...], strategy: Strategy | None) -> Group:
        policy = self.policies.get(base, self.usual)
        if strategy is not None:
            policy = msgspec.structs.replace(policy, strategy=strategy)
        return group.make(name, base, policy, source)

    def deployments(
        self, model: str, operation: Operation = Operation.CHAT, param: str = "model"
    ) -> tuple[Deployment, ...]:
        """The deployments of `model`, or of the operation's default model where one is set and `model` is unknown.

        Raises `NotFound` that lists near names; `param` is the request field that named the model.
        """
        model, _ = self._meant(model)
        found = self.served.get(model)
        if found is not None:
            return found
        if self.simulated and "+" in model:
            return self._faulty(model, param)
        return self.exactly(self._default(operation) or model, param)

    def _default(self, operation: Operation) -> str | None:
        chosen = self.default_models.get(operation)
        if (
            chosen is None
            and self.default_model is not None
            and _any_serves(self.served[self.default_model], operation)
        ):
            chosen = self.default_model
        return chosen

    def _faulty(self, model: str, param: str) -> tuple[Deployment, ...]:
        base, _, fault = model.partition("+")
        plain = self.exactly(base, param)
        hint = self.fault_hint(fault)
        if hint is not None:
            raise NotFound(f"The model '{model[:200]}' does not exist: {hint}", code="unknown_fault", param=param)
        return tuple(
            replace(found, id=f"{found.id}+{fault}", upstream_model=f"{found.upstream_model}+{fault}", fault=fault)
            for found in plain
        )

    def exactly(self, model: str, param: str = "model") -> tuple[Deployment, ...]:
        """The same without the default."""
        found = self.served.get(model)
        if found is not None:
            return found
        near = self._near(model)
        hint = f" Did you mean: {', '.join(near)}?" if near else ""
        raise NotFound(
            f"The model '{model[:200]}' does not exist.{hint} GET /v1/models lists all of them.",
            code="model_not_found",
            param=param,
        )

    def _near(self, model: str) -> list[str]:
        """Up to three ids that look like `model`, whole or without the provider."""
        wanted = model[:200].lower()
        by_lower = {name.lower(): name for name in self.served}
        short = {name.rpartition("/")[2]: full for name, full in by_lower.items()}
        found = [full for name, full in by_lower.items() if name.partition("/")[2] == wanted]  # the provider is missing
        found += [by_lower[name] for name in get_close_matches(wanted, by_lower, 3, 0.5)]
        found += [short[name] for name in get_close_matches(wanted.rpartition("/")[2], short, 3, 0.6)]
        found += [full for name, full in by_lower.items() if wanted and wanted in name]
        return list(dict.fromkeys(found))[:3]


def build(
    deployments: Iterable[Deployment],
    aliases: Mapping[str, Iterable[str]],
    default_model: str | None = None,
    *,
    default_models: Mapping[Operation, str] | None = None,
    simulated: bool = False,
    fault_hint: FaultHint = _any_fault,
    policies: Mapping[str, Policy] | None = None,
    usual: Policy = USUAL,
) -> Catalog:
    """A catalog from deployments, aliases and routes. An alias or a route without targets, with one that nobody serves
    or with the name of a model (a route may have it), and a default that nobody serves or that cannot do its operation
    raise ValueError. Several deployments with one id serve it in their order; a deployment that is named twice is tried
    as one."""
    served: dict[str, tuple[Deployment, ...]] = {}
    for deployment in deployments:
        served[deployment.id] = _each_once((*served.get(deployment.id, ()), deployment))
    plain = dict(served)
    for alias, targets in aliases.items():
        if alias in plain:
            raise ValueError(f"alias {alias!r} is a model's own id; an alias needs a name of its own")
        missing = [target for target in targets if target not in plain]
        if missing:
            raise ValueError(f"alias {alias!r} names {missing[0]!r}, which no provider serves")
        served[alias] = _each_once(deployment for target in targets for deployment in plain[target])
        if not served[alias]:
            raise ValueError(f"alias {alias!r} names no model")
    for name, policy in (policies or {}).items():
        served[name] = _routed(name, policy, plain)
    if default_model is not None and default_model not in served:
        raise ValueError(f"default_model: {default_model!r} is not served; known: {_names(served)}")
    for operation, name in (default_models or {}).items():
        if name not in served:
            raise ValueError(f"default_models.{operation}: {name!r} is not served; known: {_names(served)}")
        if not _any_serves(served[name], operation):
            raise ValueError(f"default_models.{operation}: {name!r} does not do that")
    return Catalog(
        served,
        default_model,
        simulated,
        fault_hint,
        default_models or {},
        policies=policies or {},
        usual=usual,
        ids=frozenset(plain),
    )


def _routed(name: str, policy: Policy, plain: Mapping[str, tuple[Deployment, ...]]) -> tuple[Deployment, ...]:
    """Every deployment that a route may lead to, its own models first. Raises ValueError."""
    own = () if policy.models else (name,)
    for model in (*own, *policy.names, *(model for opened in policy.fallbacks.values() for model in opened)):
        if model not in plain:
            raise ValueError(f"routes.{name}: names {model!r}, which no provider serves")
    source = _each_once(deployment for model in (*own, *policy.names) for deployment in plain[model])
    _check_demands(f"routes.{name}", source, policy.regions, policy.with_tags)
    for rule in policy.rules:
        led = rule.models or policy.models or own
        stricter = rules.changed(policy, rule)
        found = [one for model in led for one in plain[model]]
        _check_demands(f"routes.{name}: {rule.name}", found, stricter.regions, stricter.with_tags)
    return source


def _check_demands(
    place: str, deployments: Iterable[Deployment], regions: frozenset[str] | None, tags: frozenset[str]
) -> None:
    """Raises ValueError where no deployment can meet what is demanded."""
    placed = [one for one in deployments if regions is None or one.region in regions]
    if not placed:
        raise ValueError(f"{place}: allows {', '.join(sorted(regions or ())) or 'no region'}, where no deployment is")
    if not any(tags <= one.tags for one in placed):
        raise ValueError(f"{place}: asks for {', '.join(sorted(tags))}, which no deployment has")


def _any_serves(deployments: tuple[Deployment, ...], operation: Operation) -> bool:
    return any(operation in deployment.serves for deployment in deployments)


def _names(served: Mapping[str, tuple[Deployment, ...]]) -> str:
    return ", ".join(sorted(served))


def _each_once(deployments: Iterable[Deployment]) -> tuple[Deployment, ...]:
    return tuple(dict.fromkeys(deployments))
