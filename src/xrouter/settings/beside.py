"""What a route asks beside its calls: a second attempt for the first token, and copies that nobody waits for."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from xrouter.core.beside import Hedge, Shadow
from xrouter.core.money import MICRO_PER_RUB
from xrouter.settings.strict import Strict


class HedgeSettings(Strict):
    """A stream that is slow to begin is asked of a second deployment, too; whoever has content first answers."""

    after: Literal["p95"] | Annotated[float, Field(gt=0, le=600)] = Field(
        "p95", description="Seconds without content, or `p95` of the first deployment's own times to the first content."
    )
    budget_percent: float = Field(5.0, gt=0, le=100, description="Of the calls, at most, may have a second attempt.")

    def word(self) -> Hedge:
        """The same as the word of the core."""
        return Hedge(None if self.after == "p95" else self.after, self.budget_percent)


class ShadowSettings(Strict):
    """A share of the calls goes to another model, too; its answers are thrown away, and its cost is the operator's."""

    model: str = Field(min_length=1, description="Model id or alias. It needs a price.")
    percent: float = Field(gt=0, le=100, description="Of the calls.")
    max_rub_per_day: Annotated[Decimal, Field(gt=0, le=10**9, decimal_places=6)] = Field(
        description="What all copies of a day (UTC) may cost; then there are no more."
    )

    def word(self) -> Shadow:
        """The same as the word of the core."""
        return Shadow(self.model, self.percent, int(self.max_rub_per_day * MICRO_PER_RUB))


class BesideSettings(Strict):
    """The part of a route that is about this. Off where nothing is said."""

    hedge: HedgeSettings | None = Field(None, description="Ask a second deployment where a stream is slow to begin.")
    shadow: ShadowSettings | None = Field(None, description="Send copies of calls to another model.")
