"""What simulated models say: the same words for the same seed and request, in Russian or in English."""

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from random import Random
from typing import Final

import msgspec

TOKEN_CHARS: Final = 4
MAX_WORDS: Final = 100_000

_RUSSIAN: Final = (
    "Это ответ учебного стенда, а не настоящей модели.",
    "Один и тот же вопрос всегда получает один и тот же ответ.",
    "Токеном здесь считаются четыре знака, поэтому счёт легко проверить вручную.",
    "Вода кипит при ста градусах, если давление обычное.",
    "Самое глубокое озеро на Земле — Байкал.",
    "Сначала стоит измерить, а потом ускорять.",
    "Хорошая ошибка говорит, что случилось и что делать дальше.",
    "Очередь без границы рано или поздно займёт всю память.",
    "Повторять запрос можно только тогда, когда это безопасно.",
    "Москва стоит на семи холмах, хотя найти их непросто.",
    "Поток ответа приходит по частям, и каждую часть видно сразу.",
    "Если поставщик молчит, запрос уходит к следующему.",
    "Журнал хранит каждую попытку, даже прерванную.",
    "Зимой дни короче, а вечера длиннее.",
    "Простое решение легче проверить, чем сложное.",
    "Поезд из Петербурга прибывает утром.",
)
_ENGLISH: Final = (
    "This answer comes from a test stand, not from a real model.",
    "The same question always gets the same answer.",
    "Four characters count as one token here, so the sums can be checked by hand.",
    "Water boils at a hundred degrees when the pressure is ordinary.",
    "Lake Baikal is the deepest lake on Earth.",
    "Measure first, then make it faster.",
    "A good error says what happened and what to do next.",
    "A queue without a bound takes all the memory sooner or later.",
    "Repeat a request only when that is safe.",
    "A stream arrives in pieces, and each piece is seen at once.",
    "When one provider is silent, the request goes to the next.",
    "The journal keeps every attempt, even one that was cut short.",
    "In winter the days are short and the evenings are long.",
    "A simple solution is easier to check than a clever one.",
    "The train from the north arrives in the morning.",
    "Every limit has a number, and every number has a reason.",
)
_MUSINGS: Final = (
    ("Сначала разберу вопрос.", "Затем проверю, чего не хватает.", "Теперь можно ответить."),
    ("Let me look at the question first.", "Then I check what is missing.", "Now I can answer."),
)

_CYRILLIC = re.compile(r"[а-яёА-ЯЁ]")
_ECHO = re.compile(r"\becho:[ ]?(.*)", re.DOTALL | re.IGNORECASE)
_SAY = re.compile(r"(?:\bsay|\bwrite|скажи|напиши)\s+([0-9]{1,6})\s+(?:words?|слов[оа]?)\b", re.IGNORECASE)
_RECITE = re.compile(r"(?:\brecite|прочти)\s+([0-9]{1,6})\s+(?:words?|слов[оа]?)\b", re.IGNORECASE)
_WORD = re.compile(r"\s*\S{1,256}|\s+")


def tokens(text: str) -> int:
    """How many tokens a text has: one per four characters, the last one may be shorter."""
    return tokens_in(len(text))


def tokens_in(chars: int) -> int:
    """How many tokens so many characters make."""
    return (chars + TOKEN_CHARS - 1) // TOKEN_CHARS


def random_for(seed: int, *parts: object) -> Random:
    """Random numbers that depend on nothing but the arguments (anything JSON can hold)."""
    digest = blake2b(msgspec.json.encode((seed, parts), order="deterministic"), digest_size=8).digest()
    return Random(int.from_bytes(digest))  # noqa: S311 - nothing here is secret


def is_russian(text: str) -> bool:
    return _CYRILLIC.search(text) is not None


def ordered(user_text: str, rng: Random) -> str | None:
    """The answer to an `echo:`, `recite N words` or `say N words` order; None if there is no such order. What is
    recited depends on the order alone, so all models say the same."""
    echo = _ECHO.search(user_text)
    if echo is not None:
        return echo[1]
    recite = _RECITE.search(user_text)
    if recite is not None:
        return _recited(min(int(recite[1]), MAX_WORDS), random_for(0, user_text), russian=is_russian(user_text))
    say = _SAY.search(user_text)
    if say is not None:
        return _words(min(int(say[1]), MAX_WORDS), rng, russian=is_russian(user_text))
    return None


def passage(rng: Random, *, russian: bool) -> str:
    """Two to five sentences."""
    return " ".join(rng.sample(_RUSSIAN if russian else _ENGLISH, rng.randint(2, 5)))


def musing(*, russian: bool) -> str:
    """What a reasoning model thinks before it answers."""
    return " ".join(_MUSINGS[0 if russian else 1])


def own(text: str) -> list[tuple[int, int]]:
    """Where a text holds sentences of ours: places of the first character and behind the last one, in order."""
    found = [
        (place, place + len(sentence))
        for sentence in (*_RUSSIAN, *_ENGLISH)
        for place in [text.find(sentence)]
        if place >= 0
    ]
    return sorted(found)


def words(text: str) -> Iterator[str]:
    """A text in words, each with the blanks before it; joined they are the text again."""
    return (found[0] for found in _WORD.finditer(text))


def _words(count: int, rng: Random, *, russian: bool) -> str:
    sentences = list(_RUSSIAN if russian else _ENGLISH)
    rng.shuffle(sentences)
    stock = _stock(sentences)
    return " ".join((stock * (count // len(stock) + 1))[:count])


def _recited(count: int, rng: Random, *, russian: bool) -> str:
    """Words in an order that hardly ever comes twice, so that a repetition in an answer is one."""
    stock = _stock(_RUSSIAN if russian else _ENGLISH)
    return " ".join(rng.choices(stock, k=count))


def _stock(sentences: Sequence[str]) -> list[str]:
    # A dash is not a word that a reader would count.
    return [word for sentence in sentences for word in sentence.split() if word != "—"]
