"""For every test: no network but loopback, no vendor keys, the same hypothesis profile everywhere."""

import os
import socket
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services"]

# A shared two-core machine stalls now and then; slowness is for benchmarks to judge.
settings.register_profile("xrouter", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("xrouter")

_FOREIGN = (
    "XROUTER_",
    "GIGACHAT_",
    "OPENAI_",
    "ANTHROPIC_",
    "YANDEX_",
    "YC_",
    "MWS_",
    "MISTRAL_",
    "DEEPSEEK_",
    "DASHSCOPE_",
    "GEMINI_",
    "OPENROUTER_",
)
for _name in list(os.environ):  # noqa: TID251 - what a developer's shell holds must not reach a test
    if _name.startswith(_FOREIGN) and not _name.startswith("XROUTER_TEST_"):
        del os.environ[_name]  # noqa: TID251 - the same


class NetworkBlocked(RuntimeError):
    """A test tried to leave this machine."""


_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def _check(sock: socket.socket, address: Any) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        host = address[0]
        if host != "localhost" and not ip_address(host.partition("%")[0]).is_loopback:
            raise NetworkBlocked(f"tests may reach loopback only, not {host}")


def _guarded_connect(self: socket.socket, address: Any) -> None:
    _check(self, address)
    return _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: Any) -> int:
    _check(self, address)
    return _connect_ex(self, address)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", _guarded_connect_ex)
