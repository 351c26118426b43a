"""How long answers usually are: what a call reserves of a token limit where the client sets no `max_tokens`. Pure."""

from typing import Final

FIRST_GUESS: Final = 1_024
"""Tokens, before anything was learned."""

_QUANTILE: Final = 0.95
_SEEN: Final = 128
_LEARN_AFTER: Final = 16
_MOST_MODELS: Final = 1_000


class OutputGuess:
    """The 95th percentile of the output tokens of the last 128 answers of each model, reckoned anew at every 16th."""

    def __init__(self) -> None:
        self._guesses: dict[str, int] = {}
        self._seen: dict[str, list[int]] = {}
        self._counts: dict[str, int] = {}

    def of(self, model: str) -> int:
        return self._guesses.get(model, FIRST_GUESS)

    def learn(self, model: str, output_tokens: int) -> None:
        seen = self._seen.get(model)
        if seen is None:
            if len(self._seen) >= _MOST_MODELS:  # clients may ask for any name
                return
            seen = self._seen[model] = []
        count = self._counts.get(model, 0)
        self._counts[model] = count + 1
        if len(seen) < _SEEN:
            seen.append(output_tokens)
        else:
            seen[count % _SEEN] = output_tokens
        if (count + 1) % _LEARN_AFTER == 0:
            self._guesses[model] = sorted(seen)[int(len(seen) * _QUANTILE)]
