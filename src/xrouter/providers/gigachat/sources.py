"""Web search marks its sources in the text of an answer, `[sources=[2]]`: they become annotations."""

import re
from typing import Any, Final

_MARKER: Final = re.compile(r"\[sources=\[([\d,\s]{0,200})\]\]")
# What may still become a marker, at the end of a text.
_BEGUN: Final = re.compile(
    r"\[(?:s(?:o(?:u(?:r(?:c(?:e(?:s(?:=(?:\[[\d,\s]{0,200}\]?)?)?)?)?)?)?)?)?)?\Z",
)


class SourceMarkers:
    """Takes the answer in any cut, gives it without markers, and keeps where they stood."""

    def __init__(self) -> None:
        self._held = ""
        self._shown = 0
        self._places: list[tuple[int, str]] = []  # (characters before the marker, number of the source)
        self._sources: dict[str, dict[str, str]] = {}

    def feed(self, text: str) -> str:
        """What may be shown of the next piece."""
        text = self._held + text
        self._held = ""
        if "[" not in text:
            self._shown += len(text)
            return text
        begun = _BEGUN.search(text)
        if begun is not None:
            text, self._held = text[: begun.start()], begun[0]
        out, at = [], 0
        for marker in _MARKER.finditer(text):
            out.append(text[at : marker.start()])
            self._shown += len(out[-1])
            self._places += [(self._shown, number) for number in re.findall(r"\d+", marker[1])]
            at = marker.end()
        out.append(text[at:])
        self._shown += len(out[-1])
        return "".join(out)

    def end(self) -> str:
        """What was held back, now that nothing follows."""
        rest, self._held = self._held, ""
        self._shown += len(rest)
        return rest

    def add(self, sources: Any) -> None:
        """`inline_data.sources`: number -> url and title. Anything else is left out."""
        for number, source in sources.items() if isinstance(sources, dict) else ():
            url, title = (source.get("url"), source.get("title")) if isinstance(source, dict) else (None, None)
            if isinstance(url, str) and url:
                self._sources[number] = {"url": url, "title": title if isinstance(title, str) else ""}

    def annotations(self) -> list[dict[str, Any]]:
        """The sources as OpenAI's `url_citation`s: where the markers stood, those without a marker at the end."""
        marked = {number for _, number in self._places}
        places = [*self._places, *((self._shown, number) for number in self._sources if number not in marked)]
        return [
            {
                "type": "url_citation",
                "url_citation": {"start_index": place, "end_index": place, **self._sources[number]},
            }
            for place, number in places
            if number in self._sources
        ]
