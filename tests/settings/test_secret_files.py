"""Secrets in files of their own, and everything that is wrong with a file at once."""

from pathlib import Path

import msgspec
import pytest

from xrouter.core.secret import Secret
from xrouter.providers import read_options
from xrouter.settings import ConfigError, ProviderSettings, load_config, load_settings, parse_config, unknown_variables

KEY = "k" * 40


class Options(msgspec.Struct):
    token: Secret | None = None
    key_file: str = ""


def provider(**more: object) -> dict[str, object]:
    return {"providers": {"a": {"base_url": "https://a.example/v1", "models": ["m"], **more}}}


def test_a_key_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("  sk-from-file\n")
    config = parse_config(provider(api_key_file=str(path)), "x.yaml")
    assert config.providers["a"].api_key == Secret("sk-from-file")


def test_a_secret_option_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("t-1\n")
    config = parse_config(provider(options={"token_file": str(path), "key_file": "as it is"}), "x.yaml")
    found = read_options("a", config.providers["a"], Options)
    assert found.token == Secret("t-1")
    assert found.key_file == "as it is"


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        (None, {}, "cannot be read: No such file or directory"),
        (b"", {}, "is empty"),
        (b" \n", {}, "is empty"),
        (b"\xff\xfe", {}, "is not UTF-8 text"),
        (b"x" * 70_000, {}, "is too large for a secret"),
        (b"k", {"api_key": "k"}, "api_key and api_key_file are given; keep one of them"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(
    tmp_path: Path, content: bytes | None, more: dict[str, str], says: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        parse_config(provider(api_key_file=str(path), **more), "x.yaml")


def test_settings_and_variables_come_from_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pepper").write_text(KEY)
    (tmp_path / "vendor").write_text("from-a-file\n")
    monkeypatch.setenv("XROUTER_PEPPER_FILE", str(tmp_path / "pepper"))
    monkeypatch.setenv("ACME_KEY_FILE", str(tmp_path / "vendor"))
    (tmp_path / "x.yaml").write_text(
        "providers: {a: {base_url: 'https://a.example/v1', models: [m], api_key: '${ACME_KEY}'}}"
    )
    assert load_settings().pepper == Secret(KEY)
    assert unknown_variables() == []
    assert load_config(tmp_path / "x.yaml").providers["a"].api_key == Secret("from-a-file")
    monkeypatch.setenv("XROUTER_PEPPER", KEY)
    with pytest.raises(ConfigError, match="XROUTER_PEPPER and XROUTER_PEPPER_FILE are set"):
        load_settings()


def test_everything_that_is_wrong_is_said_at_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        """\
providers:
  a:
    base_url: https://a.example/v1
    api_kye: x
    api_key: ${NO_SUCH_VARIABLE}
    timeouts:
      conect_s: 3
    models:
      - name: m
        prise: 3
      - name: n
        price: {input_rub_per_1m: 1, outptu_rub_per_1m: 1}
  B: {models: [m]}
"""
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert set(str(caught.value).splitlines()) == {
        f"{path}:5: providers.a.api_key: names ${{NO_SUCH_VARIABLE}}, but the environment has no NO_SUCH_VARIABLE",
        f"{path}:4: providers.a.api_kye: is not a known key; did you mean 'api_key'?",
        f"{path}:7: providers.a.timeouts.conect_s: is not a known key; did you mean 'connect_s'?",
        f"{path}:10: providers.a.models.0.prise: is not a known key; did you mean 'price'?",
        f"{path}:12: providers.a.models.1.price.0.outptu_rub_per_1m: is not a known key; did you mean "
        "'output_rub_per_1m'?",
        f"{path}:13: providers.B: provider names are lower case: gigachat; letters, digits, - and _, 64 at most",
    }


def test_every_secret_setting_of_a_provider_has_a_file() -> None:
    secrets = [name for name, field in ProviderSettings.model_fields.items() if "Secret" in str(field.annotation)]
    assert secrets
    for name in secrets:
        with pytest.raises(ConfigError, match=f"{name}_file: the file /nowhere cannot be read"):
            parse_config(provider(**{f"{name}_file": "/nowhere"}), "x.yaml")
