"""What a request itself wants of its route: OpenRouter's `provider` object, decoded.

https://openrouter.ai/docs/features/provider-routing. Prices are roubles per million tokens, as ours are everywhere.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Sort = Literal["price", "throughput", "latency"]
SORTS: tuple[Sort, ...] = ("price", "throughput", "latency")

_Amount = Annotated[float, Meta(ge=0)] | Annotated[str, Meta(pattern="^[0-9]{1,12}([.][0-9]{1,12})?$")]
_Positive = Annotated[float, Meta(gt=0)]
_Names = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=512)], ...], Meta(max_length=64)]
_Region = Annotated[str, Meta(min_length=1, max_length=32)]


class SortBy(Struct, frozen=True):
    """`partition`: `model` sorts within each model of `models`, `none` all of them together."""

    by: Sort
    partition: Literal["model", "none"] = "model"


class Percentiles(Struct, frozen=True):
    """A bound for each share of the last calls; those that are given must all hold."""

    p50: _Positive | None = None
    p75: _Positive | None = None
    p90: _Positive | None = None
    p99: _Positive | None = None

    def bounds(self) -> tuple[tuple[float, float], ...]:
        """(share, bound) of those that are given."""
        each = ((0.5, self.p50), (0.75, self.p75), (0.9, self.p90), (0.99, self.p99))
        return tuple([(share, bound) for share, bound in each if bound is not None])


class MaxPrice(Struct, frozen=True):
    """The most that a deployment may charge: roubles for a million tokens of prompt and of completion, for a request,
    for a picture, for a second of sound. The last two words are OpenRouter's; nobody here charges by the request or by
    sound, so those bounds always hold."""

    prompt: _Amount | None = None
    completion: _Amount | None = None
    request: _Amount | None = None
    image: _Amount | None = None
    audio: _Amount | None = None


class Preferences(Struct, frozen=True):
    """`order`, `only` and `ignore` name providers (`gigachat`), or models (`gigachat/GigaChat-2`).

    `preferred_*` move a deployment behind the others, everything else removes it. `data_region` is where the data may
    be processed. `data_collection` and `zdr` are what the operator has said of a deployment by its tags.
    """

    order: _Names = ()
    only: _Names = ()
    ignore: _Names = ()
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    sort: Sort | SortBy | None = None
    max_price: MaxPrice | None = None
    preferred_min_throughput: _Positive | Percentiles | None = None
    preferred_max_latency: _Positive | Percentiles | None = None
    data_region: _Region | Annotated[tuple[_Region, ...], Meta(min_length=1, max_length=16)] | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None

    @property
    def regions(self) -> frozenset[str] | None:
        """The regions that are allowed; None for any."""
        if self.data_region is None:
            return None
        return frozenset({self.data_region} if isinstance(self.data_region, str) else self.data_region)

    @property
    def demanded_tags(self) -> frozenset[str]:
        """Tags that a deployment must have."""
        found = {NO_DATA_COLLECTION} if self.data_collection == "deny" else set()
        return frozenset(found | {ZDR} if self.zdr else found)


NO_DATA_COLLECTION = "no-data-collection"
"""The operator's tag for a deployment whose vendor does not train on what it gets (`data_collection: deny`)."""

ZDR = "zdr"
"""The operator's tag for one whose vendor keeps nothing (`zdr: true`)."""

NOTHING = Preferences()
"""Nothing wanted."""


def bounds(wanted: float | Percentiles | None) -> tuple[tuple[float, float], ...]:
    """(share, bound) of a preference; a plain number means the median."""
    if wanted is None:
        return ()
    return wanted.bounds() if isinstance(wanted, Percentiles) else ((0.5, wanted),)
