"""The port `Topics` between the workers of one supervisor, which passes on what each says to the others."""

from collections.abc import Callable

from xrouter.supervisor.lifeline import Lifeline


class Siblings:
    """One for each worker. `join` gives it the way to the supervisor; what is said before is lost."""

    def __init__(self) -> None:
        self._heard: dict[bytes, list[Callable[[str], None]]] = {}
        self._lifeline: Lifeline | None = None

    def join(self, lifeline: Lifeline) -> None:
        self._lifeline = lifeline

    def publish(self, topic: str, words: str = "") -> None:
        message = f"{topic} {words}".replace("\n", " ").encode()
        if self._lifeline is not None:
            self._lifeline.send_message(message)
        self.take(message)

    def subscribe(self, topic: str, heard: Callable[[str], None]) -> None:
        self._heard.setdefault(topic.encode(), []).append(heard)

    def take(self, message: bytes) -> None:
        """What another worker said, or we."""
        topic, _, words = message.partition(b" ")
        for heard in self._heard.get(topic, ()):
            heard(words.decode("utf-8", "replace"))
