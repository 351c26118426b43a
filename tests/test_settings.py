"""What an operator may write, and the words for what he may not."""

import pytest

from xrouter.settings import ConfigError, load_settings, parse_config

ONE = {"providers": {"a": {"base_url": "http://127.0.0.1:9", "models": ["m"]}}}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"providers": {"GigaChat": {"models": ["m"]}}}, "providers.GigaChat: provider names are lower case: gigachat"),
        (ONE | {"aliases": {"smart": []}}, "aliases.smart: needs at least one model id"),
        (ONE | {"aliases": {"": ["a/m"]}}, "aliases.: needs a name"),
        (ONE | {"aliases": {"a/m": ["a/m"]}}, "aliases.a/m: is a model's own id"),
        (ONE | {"aliases": {"smart": ["a/n"]}}, "did you mean 'a/m'?"),
    ],
)
def test_the_file_is_refused_in_words(wrong: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(wrong, "xrouter.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("PEPPER", "short"), ("PEPPER", "with spaces " * 4), ("LOG_LEVEL", "loud"), ("PORT", "70000")]
)
def test_the_environment_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"XROUTER_{name}", value)
    with pytest.raises(ConfigError, match=f"environment: XROUTER_{name}: "):
        load_settings()


@pytest.mark.parametrize("level", ["INFO", "Info", "info"])
def test_a_log_level_may_be_written_in_any_case(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("XROUTER_LOG_LEVEL", level)
    assert load_settings().log_level == "info"
