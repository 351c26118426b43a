"""`xrouter doctor` against simulated vendors, TLS servers of our own, broken hosts, databases and directories."""

import asyncio
import base64
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
import yaml
from campaigns.stage import Simulators, config_for, simulators

from xrouter.core.clock import ManualClock, SystemClock
from xrouter.core.errors import ProviderAuthFailed, ProviderRefused, ProviderUnavailable
from xrouter.doctor import account, network, storage
from xrouter.doctor.finding import Finding, State
from xrouter.settings import ProviderSettings, SecretText, Settings

Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulators]:
    with simulators(tmp_path_factory.mktemp("vendors")) as running:
        yield running


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    def run(config: dict[str, Any], **environment: str) -> tuple[int, dict[str, Any]]:
        path = tmp_path / "xrouter.yaml"
        path.write_text(yaml.safe_dump(config))
        ended = subprocess.run(
            [sys.executable, "-m", "xrouter", "doctor", "--json", str(path)],
            env={"PATH": os.environ["PATH"], "XROUTER_DATA_DIR": str(tmp_path / "data")} | environment,  # noqa: TID251
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        found: dict[str, Any] = json.loads(ended.stdout)
        return ended.returncode, found

    return run


def states(found: dict[str, Any], subject: str) -> dict[str, str]:
    return {one["check"]: one["state"] for one in found["checks"] if one["subject"] == subject}


def check(found: list[Finding], name: str) -> Finding:
    (one,) = [finding for finding in found if finding.check == name]
    return one


def test_a_good_place_is_good(vendors: Simulators, doctor: Doctor) -> None:
    code, found = doctor(config_for(vendors.url))
    assert (code, found["ok"]) == (0, True)
    for name in ("gigachat", "tbank"):
        got = states(found, f"providers.{name}")
        assert got["config"] == got["dns"] == got["tcp"] == got["clock"] == "good"
        assert got["login"] in ("good", "skipped")  # skipped for a kind without a free request
    assert states(found, "database") == {"reachable": "skipped"}
    assert states(found, "data directory") == {"rights": "skipped"}
    assert not any(row["path"].endswith("/chat/completions") for row in vendors.requests())


def test_each_credential_is_looked_at(vendors: Simulators, doctor: Doctor) -> None:
    base = config_for(vendors.url)["providers"]["gigachat"]
    refused = base64.b64encode(b"client:wrong").decode()
    several = {name: value for name, value in base.items() if name != "api_key"}
    several["credentials"] = [{"api_key": base["api_key"]}, {"name": "old", "api_key": refused}]
    code, found = doctor({"providers": {"giga": several}, "simulated": True})
    assert code == 1
    assert states(found, "providers.giga#1")["login"] == "good"
    assert states(found, "providers.giga#old")["login"] == "failed"
    assert refused not in str(found)


def test_a_closed_port_is_told_with_its_mend(doctor: Doctor) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = taken.getsockname()[1]
        account = {"base_url": f"http://127.0.0.1:{port}/v1", "models": ["m"]}
        code, found = doctor({"providers": {"a": account}})
    assert (code, found["ok"]) == (1, False)
    assert states(found, "providers.a") == {"config": "good", "dns": "good", "tcp": "failed", "login": "skipped"}
    (failure,) = [one for one in found["checks"] if one["state"] == "failed"]
    assert f"127.0.0.1:{port} takes no connection" in failure["words"]
    assert (
        failure["mend"] == "is the server running, and is this its port? If so: open the firewall for it, or set proxy"
    )


def test_every_mistake_of_the_file_is_a_finding(doctor: Doctor) -> None:
    account = {"base_url": "ftp://a", "modles": ["m"], "models": ["m"]}
    code, found = doctor({"providers": {"a": account}})
    assert code == 1
    failures = [one["words"] for one in found["checks"] if one["state"] == "failed"]
    assert len(failures) == 2
    assert any("did you mean 'models'?" in words for words in failures)
    assert states(found, "database") == {"reachable": "skipped"}, "the rest is looked at all the same"


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Callable[[str], Any]]:
    """Makes a TLS server that answers everything with 404 and the `Date` it is told; gives its URL and its CA."""
    running: list[asyncio.Server] = []

    async def start(date: str) -> tuple[str, Path]:
        authority = trustme.CA(organization_name="Private Authority")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        bundle = tmp_path / "roots.pem"
        authority.cert_pem.write_to_path(str(bundle))

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await reader.readline():
                while (await reader.readline()).strip():
                    pass
                writer.write(f"HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()

        running.append(await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context))
        port = running[-1].sockets[0].getsockname()[1]
        return f"https://127.0.0.1:{port}/v1", bundle

    yield start
    for one in running:
        one.close()


async def examine(**settings: Any) -> list[Finding]:
    provider = ProviderSettings(models=["m"], **settings)  # type: ignore[list-item]
    return [finding async for finding in account.examine("a", provider, SystemClock())]


async def test_a_private_authority_needs_its_bundle(server: Any) -> None:
    url, bundle = await server(format_datetime(datetime.fromtimestamp(SystemClock().now(), UTC), usegmt=True))
    refused = check(await examine(base_url=url), "tls")
    assert refused.state is State.FAILED
    assert refused.mend == "set ca_bundle of this provider to the vendor's own root certificate (PEM)"
    found = await examine(base_url=url, ca_bundle=bundle)
    assert [finding for finding in found if finding.state is State.FAILED] == []
    assert "issued by Private Authority" in check(found, "tls").words
    assert "days left" in check(found, "tls").words
    assert check(found, "ca_bundle").state is State.GOOD
    assert check(found, "clock").state is State.GOOD


async def test_gigachat_is_told_which_root_it_needs(server: Any) -> None:
    url, _ = await server("x")
    findings = await network.reach(
        "a",
        url,
        ProviderSettings(kind="gigachat", models=["m"]),
        SystemClock(),  # type: ignore[list-item]
    )
    assert "Russian Trusted Root CA" in check(findings, "tls").mend


async def test_a_clock_that_is_off_is_a_warning(server: Any) -> None:
    hour_ago = datetime.fromtimestamp(SystemClock().now() - 3600, UTC)
    url, bundle = await server(format_datetime(hour_ago, usegmt=True))
    found = check(await examine(base_url=url, ca_bundle=bundle), "clock")
    assert found.state is State.WARNING
    assert "s ahead of the vendor's" in found.words
    url, bundle = await server("tomorrow, perhaps")
    assert check(await examine(base_url=url, ca_bundle=bundle), "clock").state is State.SKIPPED


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = await examine(base_url="https://llm.example.com/v1")
    assert [finding.check for finding in found] == ["config", "dns", "login"]
    assert check(found, "dns").words == "the name llm.example.com cannot be looked up: Name or service not known"


def test_a_root_that_ends_soon_is_a_warning(tmp_path: Path) -> None:
    bundle = tmp_path / "roots.pem"
    trustme.CA(organization_name="Private Authority").cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=bundle)
    end = ssl.cert_time_to_seconds(str(context.get_ca_certs()[0]["notAfter"]))
    for days, state, words in (
        (100, State.GOOD, "100 days"),
        (30, State.WARNING, "30 days"),
        (-2, State.WARNING, "has"),
    ):
        (found,) = network.bundle("a", bundle, ManualClock(end - days * 86_400))
        assert (found.state, words in found.words) == (state, True), found


class Vendor:
    def __init__(self, answer: list[str] | Exception) -> None:
        self._answer = answer

    async def list_models(self) -> list[str]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


PROVIDER = ProviderSettings(models=["GigaChat-2", "GigaChat-22"])  # type: ignore[list-item]


async def test_a_model_that_the_vendor_does_not_have() -> None:
    found = await account._login("a", PROVIDER, Vendor(["GigaChat-2", "GigaChat-2-Max"]))
    assert check(found, "login").state is State.GOOD
    assert check(found, "models").words == "GigaChat-22 is not on the vendor's list"
    assert "GigaChat-2" in check(found, "models").mend


async def test_a_name_like_none_of_the_vendors_gets_the_list_and_no_guess() -> None:
    provider = ProviderSettings(models=["some-model"])  # type: ignore[list-item]
    found = await account._login("a", provider, Vendor(["text-embedder", "qwen-image"]))
    assert check(found, "models").mend == "it has: qwen-image, text-embedder"


async def test_a_branch_may_be_written_either_way() -> None:
    provider = ProviderSettings(models=["yandexgpt-lite:rc", "yandexgpt"])  # type: ignore[list-item]
    found = await account._login("a", provider, Vendor(["gpt://f/yandexgpt-lite/rc", "gpt://f/yandexgpt/latest"]))
    assert [one.check for one in found] == ["login"]


async def test_a_server_without_a_list_let_us_in() -> None:
    gone = ProviderRefused("a answered 404", provider="a", upstream_status=404)
    (found,) = await account._login("a", PROVIDER, Vendor(gone))
    assert found.state is State.SKIPPED


async def test_a_login_that_is_refused() -> None:
    for kind, asked, never in (
        ("gigachat", ("api_key", "scope"), "folder"),
        ("yandexgpt", ("options.folder", "role"), "scope"),
        ("mts", ("api_key", "project"), "scope"),
    ):
        provider = PROVIDER.model_copy(update={"kind": kind})
        (found,) = await account._login("a", provider, Vendor(ProviderAuthFailed("wrong key", provider="a")))
        assert (found.state, found.words) == (State.FAILED, "wrong key")
        assert all(word in found.mend for word in asked), found.mend
        assert never not in found.mend
    (found,) = await account._login("a", PROVIDER, Vendor(ProviderUnavailable("502", provider="a")))
    assert found.state is State.FAILED
    (found,) = await account._login("a", PROVIDER, object())
    assert found.state is State.SKIPPED


async def database(url: str, data_dir: Path) -> list[Finding]:
    settings = Settings().model_copy(update={"data_dir": data_dir, "database_url": SecretText(url)})
    return [finding async for finding in storage.database(settings)]


async def test_databases(tmp_path: Path) -> None:
    missing = tmp_path / "no.db"
    (found,) = await database(f"sqlite:///{missing}", tmp_path)
    assert found.state is State.SKIPPED
    assert not missing.exists(), "looking changes nothing"
    (found,) = await database("not a url", tmp_path)
    assert (found.state, found.mend) == (State.FAILED, "mend XROUTER_DATABASE_URL")
    (tmp_path / "garbage.db").write_bytes(b"this is no database at all, but long enough to be taken for one" * 20)
    (found,) = await database(f"sqlite:///{tmp_path / 'garbage.db'}", tmp_path)
    assert (found.check, found.state) == ("reachable", State.FAILED)


def test_a_database_after_the_first_start(vendors: Simulators, doctor: Doctor, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "xrouter", "keys", "create", "one"],
        env={"PATH": os.environ["PATH"], "XROUTER_DATA_DIR": str(tmp_path / "data")},  # noqa: TID251 - for a child
        check=True,
        capture_output=True,
        timeout=60,
    )
    code, found = doctor(config_for(vendors.url))
    assert code == 0
    assert states(found, "database") == {
        "reachable": "good", "migrations": "good", "writable": "good", "pepper": "good",
    }  # fmt: skip
    assert states(found, "data directory")["rights"] == "good"
    code, found = doctor(config_for(vendors.url), XROUTER_PEPPER="another" * 6)
    (pepper,) = [one for one in found["checks"] if one["check"] == "pepper"]
    assert (code, pepper["state"]) == (1, "failed")
    assert "comes from XROUTER_PEPPER. Copy the file `pepper`" in pepper["mend"]
    (tmp_path / "data" / "pepper").rename(tmp_path / "lost")
    code, found = doctor(config_for(vendors.url))
    assert states(found, "database")["pepper"] == "failed"
    assert not (tmp_path / "data" / "pepper").exists(), "looking makes none"
    (tmp_path / "lost").rename(tmp_path / "data" / "pepper")
    (tmp_path / "data").chmod(0o755)
    code, found = doctor(config_for(vendors.url))
    assert (code, states(found, "data directory")["rights"]) == (0, "warning")
    assert any(one["mend"] == f"chmod 700 {tmp_path / 'data'}" for one in found["checks"])
