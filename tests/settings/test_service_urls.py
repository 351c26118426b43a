"""URLs that cannot be used are refused in words, at `config check` and at every start, and never printed."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from xrouter.cli.commands import app
from xrouter.core.service_url import check_database_url, check_redis_url
from xrouter.settings import ConfigError, load_settings

PASSWORD = "hunter2secret"

DATABASES = {
    "mysql://root:hunter2secret@db/x": "'mysql', which we do not speak",
    "postgresql://": "names no host",
    "postgresql:///x": "names no host",
    "postgresql://root:hunter2secret@/x": "names no host",
    "postgresql://root:hunter2secret@db:abc/x": "no number from 1 to 65535",
    "postgresql://root:hunter2secret@db:99999/x": "no number from 1 to 65535",
    "postgresql://root:hunter2secret@db:0/x": "no number from 1 to 65535",
    "postgresql://root:hunter2secret@db1:5432,db2:x/x": "no number from 1 to 65535",
    "postgresql://root:hunter2secret@[::1/x": "no IPv6 address",
    "postgresql://root:hunter2secret@db/x?sslmode=on": "sslmode that does not exist",
    "postgresql://root:hunter2secret/b@db:5432/x": "percent-encoded",
    "postgresql://root:12#hunter2secret@db/x": "%23",
    "postgresql://root:12/hunter2secret@db/x": "%2F",
    "postgresql://root:12?hunter2secret@db/x": "%3F",
    "postgresql://root:hunter2secret@db/x?sslmod=require": "did you mean sslmode?",
    "postgresql://root:hunter2secret@db/x?nothing=1": "'nothing' that does not exist; there are application_name",
    "postgresql://root:hunter2secret@db/x?sslrootcert=/no/such.pem": "the file /no/such.pem as sslrootcert",
    "sqlite:////tmp/x.db?mode=ro": "'mode' that does not exist; there are none",
    "hunter2secret": "is no URL",
    "hunter2secret@db://x": "something else",
    "sqlite://": "must name a file",
    "sqlite:///:memory:": "must name a file",
    "sqlite://host/hunter2secret": "four slashes",
}
REDIS = {
    "http://:hunter2secret@cache": "'http', which is not Redis",
    "redis://": "names no host",
    "redis://:hunter2secret@": "names no host",
    "redis://:hunter2secret@cache:abc": "no number from 1 to 65535",
    "redis://:hunter2secret@cache:70000/0": "no number from 1 to 65535",
    "redis://:hunter2secret@cache/abc": "names a database that is no number",
    "redis://:hunter2secret@cache?db=abc": "names a database that is no number",
    "redis://:hunter2secret@[::1": "no IPv6 address",
    "redis://:12#hunter2secret@cache": "%23",
    "redis://:12/hunter2secret@cache": "%2F",
    "redis://:hunter2secret@cache?ssl_cert_req=none": "did you mean ssl_cert_reqs?",
    "rediss://:hunter2secret@cache?ssl_ca_certs=/no/such.pem": "the file /no/such.pem as ssl_ca_certs",
    "unix://": "names no socket",
    "cache:6379": "is no URL",
}


@pytest.mark.parametrize(
    ("variable", "url", "words"),
    [("DATABASE_URL", url, words) for url, words in DATABASES.items()]
    + [("REDIS_URL", url, words) for url, words in REDIS.items()],
)
def test_what_cannot_be_used_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str, words: str
) -> None:
    monkeypatch.setenv(f"XROUTER_{variable}", url)
    for command in (["config", "check"], ["serve"], ["keys", "list"]):
        found = CliRunner().invoke(app, command)
        assert isinstance(found.exception, ConfigError)
        said = str(found.exception) + found.output
        assert said.startswith(f"environment: XROUTER_{variable}: ")
        assert words.strip("'") in said
        assert PASSWORD not in said
        assert found.exception.__cause__ is None or PASSWORD not in str(found.exception.__cause__)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@db/x", "postgres://db", "postgresql+asyncpg://u:p%2F@db:5432/x?sslmode=verify-full",
        "postgresql://u@a:5432,b:5433,[::1]:5434/x?target_session_attrs=primary", "postgresql:///x?host=/run/postgresql",
        "postgresql://u:p@%2Frun%2Fpostgresql/x", "postgresql:///x?host=/run/a,/run/b&port=5432,5433",
        "sqlite:////var/lib/x.db", "sqlite:///x.db", "sqlite+aiosqlite:////x.db",
    ],
)  # fmt: skip
def test_what_can_be_used_is_taken_for_the_database(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("XROUTER_DATABASE_URL", url)
    assert load_settings().database.reveal() == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache", "redis://cache/", "redis://:p@cache:6379/0", "rediss://u:p@[::1]:6379/15?ssl_cert_reqs=none",
        "redis://cache?db=3", "unix:///run/redis.sock?db=1", "unix://u:p@/run/redis.sock",
    ],
)  # fmt: skip
def test_what_can_be_used_is_taken_for_redis(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("XROUTER_REDIS_URL", url)
    found = load_settings().redis_url
    assert found is not None
    assert found.reveal() == url


@given(st.text(max_size=40), st.sampled_from(["", "redis://", "postgresql://", "sqlite:///", "unix://"]))
def test_any_text_is_taken_or_refused_in_words(text: str, scheme: str) -> None:
    for check in (check_database_url, check_redis_url):
        said = refusal(check, scheme + text)
        assert len(text) < 8 or text not in said


def refusal(check: Callable[[str], None], url: str) -> str:
    try:
        check(url)
    except ValueError as error:
        return str(error)
    return ""
