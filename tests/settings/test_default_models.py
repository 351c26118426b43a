"""`default_models` of the operator's file: a default model for each kind of work."""

import pytest

from xrouter.core.operation import Operation
from xrouter.settings import ConfigError, parse_config

PROVIDERS = {"a": {"base_url": "https://a.example/v1", "models": ["m", "vectors"]}}


def test_each_kind_of_work_may_have_its_own() -> None:
    config = parse_config(
        {
            "providers": PROVIDERS,
            "aliases": {"smart": ["a/m"]},
            "default_models": {"chat": "smart", "embeddings": "a/vectors"},
        },
        "x.yaml",
    )
    assert config.default_models == {Operation.CHAT: "smart", Operation.EMBEDDINGS: "a/vectors"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"embeddings": "a/vector"},
            "default_models.embeddings: names the unknown model 'a/vector'; did you mean 'a/v",
        ),
        ({"songs": "a/m"}, "default_models.songs"),
    ],
)
def test_what_nobody_serves_is_refused(wrong: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"providers": PROVIDERS, "default_models": wrong}, "x.yaml")
    assert says in str(caught.value)
