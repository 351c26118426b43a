"""Providers out of the vendors' own variables."""

from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xrouter.cli.commands import app
from xrouter.configuration import vendor_environment
from xrouter.configuration.effective import load
from xrouter.configuration.prices import catalogue
from xrouter.core.money import moscow_midnight
from xrouter.core.operation import Operation
from xrouter.core.secret import Secret
from xrouter.providers import kinds
from xrouter.providers import load as load_kind
from xrouter.settings import ConfigError, Settings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in vendor_environment.variables():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


NOW = moscow_midnight(date(2026, 11, 21))
WORK = {
    "embed": Operation.EMBEDDINGS,
    "text-search-": Operation.EMBEDDINGS,
    "-art": Operation.IMAGES,
    "image": Operation.IMAGES,
}


def settings(**more: object) -> Settings:
    return Settings().model_copy(update=more)


def test_each_vendor_is_added_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in vendor_environment.credentials():
        monkeypatch.setenv(name, f"key-of-{name}")
    monkeypatch.setenv("YC_FOLDER_ID", "b1gfolder")
    monkeypatch.setenv("MWS_PROJECT", "prod")
    monkeypatch.setenv("MWS_MODELS", "qwen3-32b, bge-m3")
    monkeypatch.setenv("GIGACHAT_SCOPE", "GIGACHAT_API_CORP")
    effective = load(settings(), vendors=True)
    found = effective.config.providers
    assert list(found) == list(vendor_environment.vendors())
    assert all(provider.api_key for provider in found.values())
    assert all(provider.models for provider in found.values())
    assert found["gigachat"].scope == "GIGACHAT_API_CORP"
    assert found["yandexgpt"].options == {"folder": "b1gfolder"}
    assert found["mts"].base_url == "https://gpt.mwsapis.ru/projects/prod/openai/v1"
    assert [model.name for model in found["mts"].models] == ["qwen3-32b", "bge-m3"]
    assert effective.sources["providers.gigachat"] == "environment (GIGACHAT_CREDENTIALS, GIGACHAT_SCOPE)"
    assert effective.hints == ()


OF = {"gigachat": "b2Y6Z2lnYWNoYXQ="}  # base64 of client:secret, else refused at the start


def all_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable that a login needs."""
    for name, vendor in vendor_environment.vendors().items():
        for setting in vendor.needs[0]:
            variable = vendor.choice if setting == "models" else vendor.settings[setting][0]
            value = (
                "https://gpt.mwsapis.ru/projects/p/openai/v1" if setting == "base_url" else OF.get(name, f"of-{name}")
            )
            monkeypatch.setenv(variable, value)


def test_the_start_takes_all_vendors_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_set(monkeypatch)
    monkeypatch.setenv("XROUTER_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("XROUTER_CONFIG", raising=False)
    result = CliRunner().invoke(app, ["config", "check"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"good: {len(vendor_environment.vendors())} providers, ")


@pytest.mark.parametrize("name", vendor_environment.vendors())
def test_what_a_vendor_serves_by_default_is_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    all_set(monkeypatch)
    vendor = vendor_environment.vendors()[name]
    assert vendor.kind in kinds()
    found = load_kind(vendor.kind).deployments(name, load(settings(), vendors=True).config.providers[name])
    assert [one.upstream_model for one in found] == (vendor.models or [f"of-{name}"])
    assert Operation.CHAT in found[0].serves, "an alias for the provider leads to a model that chats"
    for one in found:
        wanted = next((work for word, work in WORK.items() if word in one.upstream_model.lower()), Operation.CHAT)
        assert one.serves >= {wanted}, one.id
        if catalogue(vendor.kind) and wanted is Operation.CHAT:
            assert one.price is not None, one.id
            assert one.price.at(NOW) is not None, one.id


def test_the_names_of_the_users_documents_lead_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", "k")
    monkeypatch.setenv("YC_API_KEY", "k")
    monkeypatch.setenv("YC_FOLDER_ID", "b1g")
    monkeypatch.setenv("MWS_API_KEY", "k")
    monkeypatch.setenv("MWS_BASE_URL", "https://gpt.mwsapis.ru/projects/p/openai/v1")
    monkeypatch.setenv("MWS_MODELS", "qwen3-32b")
    monkeypatch.setenv("YANDEX_MODELS", "yandexgpt/latest,yandexgpt-lite/rc")
    aliases = load(settings(), vendors=True).config.aliases
    assert aliases["mts-ai"] == ["mts/qwen3-32b"]
    assert aliases["gigachat-pro"] == ["gigachat/GigaChat-2-Pro"]
    assert aliases["yandexgpt:latest"] == ["yandexgpt/yandexgpt/latest"]
    assert aliases["yandexgpt-lite:rc"] == ["yandexgpt/yandexgpt-lite/rc"]


def test_the_file_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", "of-the-environment")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    path = tmp_path / "x.yaml"
    path.write_text(
        "providers: {mine: {kind: gigachat, api_key: mine, models: [GigaChat-2]}}\n"
        "aliases: {gigachat: [mine/GigaChat-2]}"
    )
    effective = load(settings(config=path), vendors=True)
    assert list(effective.config.providers) == ["mine", "openai"]
    assert effective.sources["aliases.gigachat"] == f"file {path}"
    assert effective.sources["aliases.gigachat-lite"] == "built-in"
    assert list(load(settings(config=path), vendors=False).config.providers) == ["mine"]
    assert list(load(settings(config=path, vendor_environment=False), vendors=True).config.providers) == ["mine"]
    path.write_text(path.read_text() + "\nsimulated: true")
    assert list(load(settings(config=path), vendors=True).config.providers) == ["mine"]


def test_a_name_of_the_file_is_never_taken_by_an_alias(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "providers: {g: {kind: gigachat, api_key: k, models: [GigaChat-2-Pro]}}\n"
        "aliases: {gigachat-pro: [g/GigaChat-2-Pro]}"
    )
    effective = load(settings(config=path), vendors=True)
    assert dict(effective.config.aliases) == {"gigachat-pro": ["g/GigaChat-2-Pro"]}
    assert effective.sources["aliases.gigachat-pro"].startswith("file")


def test_half_a_login_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YC_API_KEY", "k")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    (hint,) = load(settings(), vendors=True).hints
    assert hint == "YC_API_KEY is set, but for a provider 'yandexgpt' it takes YC_FOLDER_ID or YANDEX_FOLDER_ID, too"


def test_nothing_at_all_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"set XROUTER_CONFIG .*GIGACHAT_CREDENTIALS.*`xrouter demo` needs neither"):
        load(settings(), vendors=True)


def test_a_key_may_come_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "key"))
    effective = load(settings(), vendors=True)
    assert effective.config.providers["openai"].api_key == Secret("from-a-file")
    assert effective.files == (tmp_path / "key",)
    monkeypatch.setenv("OPENAI_API_KEY", "twice")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY and OPENAI_API_KEY_FILE are set"):
        load(settings(), vendors=True)


def test_the_page_names_every_variable() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
    assert [name for name in vendor_environment.variables() if f"`{name}`" not in page] == []
