"""A changed file is noticed, a bad one is not taken."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from xrouter.configuration.effective import Effective, load
from xrouter.configuration.watching import Watching
from xrouter.core.secret import Secret
from xrouter.settings import Config, ConfigError, Settings

TEXT = "providers: {a: {base_url: 'https://a.example/v1', models: [m], api_key_file: '%s', options: {x_file: '%s'}}}"


def write(path: Path, text: str) -> None:
    """In one step, as mounted secrets change: a file that is seen half-written would be read twice."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(path)


class Server:
    """Takes what it is given, unless told otherwise; notes it, and what it hears of problems."""

    def __init__(self) -> None:
        self.taken: list[tuple[Config, frozenset[Path]]] = []
        self.heard: list[tuple[str, ...]] = []
        self.wrong = ""

    def take(self, effective: Effective, changed: frozenset[Path]) -> None:
        if self.wrong:
            raise ConfigError(self.wrong)
        self.taken.append((effective.config, changed))

    def refuse(self, problems: tuple[str, ...]) -> None:
        self.heard.append(problems)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def test_files_of_secrets_and_of_options_are_watched(tmp_path: Path) -> None:
    key, option, path = tmp_path / "key", tmp_path / "option", tmp_path / "x.yaml"
    write(key, "one")
    write(option, "one")
    write(path, TEXT % (key, option))
    settings = Settings().model_copy(update={"config": path})
    server = Server()
    taken = server.taken
    loads = 0

    def again() -> Effective:
        nonlocal loads
        try:
            return load(settings, vendors=False)
        finally:
            loads += 1  # only now: what is written from here on, this load has not seen

    first = again()
    assert set(first.files) == {key, option, path}
    watching = Watching(first, again, server, 0.01)
    running = asyncio.create_task(watching.run())
    try:
        await until(lambda: loads == 2)  # the look with which it begins
        assert taken == []
        write(key, "two!")
        await until(lambda: len(taken) == 1)
        assert taken[0][0].providers["a"].api_key == Secret("two!")
        assert taken[0][1] == {key}
        write(option, "two!")
        await until(lambda: len(taken) == 2)
        assert taken[1][1] == {option}
        before = loads
        key.unlink()
        await until(lambda: loads > before + 1)
        assert len(taken) == 2, "a file that is gone keeps the old credential"
        assert ["cannot be read" in " ".join(problems) for problems in server.heard] == [True], "told once"
        write(key, "three")
        await until(lambda: len(taken) == 3)
        assert taken[2][0].providers["a"].api_key == Secret("three")
        assert server.heard[1:] == [()]
        watching.hurry()
        await until(lambda: len(taken) == 4)
        assert taken[3][1] == {key, option, path}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_change_before_the_first_stamp_is_not_lost(tmp_path: Path) -> None:
    """A worker that starts slowly: the file changes after it was read and before it is watched."""
    key, option, path = tmp_path / "key", tmp_path / "option", tmp_path / "x.yaml"
    write(key, "one")
    write(option, "one")
    write(path, TEXT % (key, option))
    settings = Settings().model_copy(update={"config": path})
    first = load(settings, vendors=False)
    write(key, "two!")
    server = Server()
    taken = server.taken
    watching = Watching(first, lambda: load(settings, vendors=False), server, 60)
    running = asyncio.create_task(watching.run())
    try:
        await until(lambda: len(taken) == 1)
        assert taken[0][0].providers["a"].api_key == Secret("two!")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_is_found_wrong_only_in_use_has_its_line_and_is_tried_again(tmp_path: Path) -> None:
    key, option, path = tmp_path / "key", tmp_path / "option", tmp_path / "x.yaml"
    write(key, "one")
    write(option, "one")
    write(path, "\n\n" + TEXT % (key, option))
    settings = Settings().model_copy(update={"config": path})
    server = Server()
    watching = Watching(load(settings, vendors=False), lambda: load(settings, vendors=False), server, 0.01)
    running = asyncio.create_task(watching.run())
    try:
        server.wrong = "providers.a.models.m: cannot be had"
        write(option, "two!")
        await until(lambda: len(server.heard) == 1)
        assert server.heard == [(f"{path}:3: providers.a.models.m: cannot be had",)]
        server.wrong = ""  # no file of ours has changed
        await until(lambda: len(server.taken) == 1)
        assert server.taken[0][1] == {option}, "what had changed before is not forgotten"
        assert server.heard[1:] == [()]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
