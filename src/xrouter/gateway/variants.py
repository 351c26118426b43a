"""Variants: a suffix on a model id that says how to choose among its deployments. Only where the whole id is not
served by itself: `yandexgpt-lite:rc` is a vendor's own name and stays whole."""

from collections.abc import Mapping

from xrouter.core.policy import Strategy

VARIANTS: Mapping[str, Strategy] = {"floor": Strategy.CHEAPEST, "nitro": Strategy.THROUGHPUT}
"""OpenRouter's: https://openrouter.ai/docs/features/provider-routing#nitro-shortcut."""


def split(model: str) -> tuple[str, Strategy | None]:
    """The id without its variant, and the order that the variant asks for; None where it has none."""
    base, colon, suffix = model.rpartition(":")
    strategy = VARIANTS.get(suffix) if colon else None
    return (model, None) if strategy is None or not base else (base, strategy)
