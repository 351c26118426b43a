"""`xrouter config check` and `explain`."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from xrouter.cli.commands import app

Run = Callable[..., Any]
SECRET = "dmVyeTpzZWNyZXQtY3JlZGVudGlhbA=="  # base64 of client:secret
FILE = f"""\
providers:
  gigachat:
    kind: gigachat
    api_key: {SECRET}
    scope: GIGACHAT_API_CORP
    proxy: http://user:{SECRET}@proxy.example:3128
    models: [GigaChat-2-Pro]
  own:
    kind: vllm
    base_url: https://llm.example.com/v1
    options: {{system_first: true}}
    max_concurrency: 4
    models:
      - name: m
        price:
          - {{input_rub_per_1m: 1, output_rub_per_1m: 2, valid_to: 2099-12-31}}
          - {{input_rub_per_1m: 3, output_rub_per_1m: 4, valid_from: 2100-01-01}}
      - free
aliases: {{smart: [own/m]}}
default_model: smart
default_models: {{chat: gigachat/GigaChat-2-Pro}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XROUTER_DATA_DIR", str(tmp_path / "data"))

    def run(text: str, *command: str) -> Any:
        path = tmp_path / "xrouter.yaml"
        path.write_text(text)
        return CliRunner().invoke(app, ["config", *command, str(path)])

    return run


def test_a_good_file_is_good(run: Run) -> None:
    result = run(FILE, "check")
    assert (result.exit_code, result.stdout) == (0, "good: 2 providers, 3 models, 2 aliases\n")


def test_everything_that_the_start_would_refuse_is_said_at_once(run: Run, tmp_path: Path) -> None:
    result = run(
        """\
providers:
  a: {kind: gigachat, models: [GigaChat-2], options: {nope: 1}}
  b: {kind: gigacat, base_url: 'https://x.example', models: [m]}
  c: {kind: vllm, base_url: 'https://x.example', models: [m], ca_bundle: /nowhere.pem}
  d: {kind: vllm, base_url: 'http://127.0.0.1:1/v1', models: [m], options: {system_frist: true}}
  e: {kind: openai, models: [m]}
""",
        "check",
    )
    path = tmp_path / "xrouter.yaml"
    assert result.exit_code == 1
    said = str(result.exception)
    for words in (
        f"{path}:2: providers.a.options.nope: is not a known key",
        f"{path}:3: providers.b: unknown provider kind 'gigacat'",
        "did you mean 'gigachat'?",
        f"{path}:4: providers.c.ca_bundle: /nowhere.pem: cannot be read: No such file or directory",
        f"{path}:5: providers.d.options.system_frist: is not a known key; did you mean 'system_first'?",
        f"{path}:6: providers.e.api_key: openai needs a key",
    ):
        assert words in said


EVERY_MISTAKE = """\
providers:
  a:
    kind: gigachat
    scope: GIGACHAT_API_NOPE
    api_key: not base64
    options:
      nope: 1
      contract: v9
    models:
      - GigaChat-2
      - GigaChat-2
      - {name: x, options: {what: 1}}
      - {name: y, price: {input_rub_per_1m: 5}}
  b:
    kind: gigacat
    base_url: https://x.example
    models: [m]
  c:
    kind: vllm
    models: []
    max_concurrency: many
  d:
    kind: yandexgpt
    models: [yandexgpt, "no such/one/x"]
  e:
    kind: openai
    ca_bundle: /nowhere.pem
    models: [gpt]
aliases:
  smart: [e/gtp, b/m]
  e/gpt: [b/m]
  empty: []
default_model: nobody
default_models: {embeddings: e/gpt, images: nobody}
"""


def test_every_mistake_is_found_at_once_with_its_line(run: Run, tmp_path: Path) -> None:
    said = str(run(EVERY_MISTAKE, "check").exception).splitlines()
    path = tmp_path / "xrouter.yaml"
    expected = [
        (4, "providers.a.scope: 'GIGACHAT_API_NOPE' is none of"),
        (5, "providers.a.api_key: "),
        (7, "providers.a.options.nope: is not a known key"),
        (8, "providers.a.options.contract: "),
        (11, "providers.a.models.1: GigaChat-2 stands twice"),
        (12, "providers.a.models.x.options.what: is not a known key"),
        (13, "providers.a.models.3.price: y chats, so it needs output_rub_per_1m"),
        (14, "providers.b: unknown provider kind 'gigacat'"),
        (20, "providers.c.models: needs 1 or more"),
        (21, "providers.c.max_concurrency: must be a whole number"),
        (22, "providers.d: yandexgpt needs exactly one of api_key"),
        (24, "providers.d.models.yandexgpt: 'yandexgpt' needs the folder"),
        (24, "providers.d.models.no such/one/x: 'no such/one/x' is no model"),
        (25, "providers.e.api_key: openai needs a key"),
        (27, "providers.e.ca_bundle: /nowhere.pem: cannot be read"),
        (30, "aliases.smart.0: names the unknown model 'e/gtp'; did you mean 'e/gpt'?"),
        (31, "aliases.e/gpt: is a model's own id"),
        (32, "aliases.empty: needs at least one model id"),
        (33, "default_model: names the unknown model 'nobody'"),
        (34, "default_models.embeddings: 'e/gpt' does not do that"),
        (34, "default_models.images: names the unknown model 'nobody'"),
    ]
    lost = [
        (line, words) for line, words in expected if not any(one.startswith(f"{path}:{line}: {words}") for one in said)
    ]
    assert lost == [], "\n".join(said)
    assert len(said) == len(expected) == len(set(said)), "\n".join(said)
    lines = [int(one.removeprefix(f"{path}:").partition(":")[0]) for one in said]
    assert lines == sorted(lines)


def test_a_default_that_cannot_do_its_work_is_found_with_its_line(run: Run, tmp_path: Path) -> None:
    said = str(run(FILE.replace("chat: gigachat", "embeddings: gigachat"), "check").exception)
    assert (
        said == f"{tmp_path / 'xrouter.yaml'}:21: default_models.embeddings: 'gigachat/GigaChat-2-Pro' does not do that"
    )


def test_a_price_that_is_yet_to_come_is_shown(run: Run) -> None:
    new = "      - name: soon\n        price: {input_rub_per_1m: 3, output_rub_per_1m: 4, valid_from: 2100-01-01}\n"
    found = yaml.safe_load(run(FILE.replace("      - free\n", new), "explain").stdout)
    soon = found["providers"]["own"]["models"]["own/soon"]
    assert soon["price"] == {"currency": "RUB", "unpriced": True}
    assert [one["valid_from"] for one in soon["later"]] == ["2100-01-01"]


def test_checking_reaches_out_to_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a check must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert run(FILE, "check").exit_code == 0


def test_what_is_in_force_is_explained_with_its_owner(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XROUTER_PORT", "9999")
    monkeypatch.setenv("XROUTER_PEPPER", "p" * 40)
    monkeypatch.setenv("DEEPSEEK_API_KEY", "")
    result = run(FILE, "explain")
    assert result.exit_code == 0, result.exception
    found = yaml.safe_load(result.stdout)
    source = f"file {tmp_path / 'xrouter.yaml'}"
    assert found["settings"]["port"] == {"value": 9999, "source": "environment (XROUTER_PORT)"}
    assert found["settings"]["host"] == {"value": "127.0.0.1", "source": "built-in"}
    assert found["settings"]["pepper"]["value"] == "***"
    giga, own = found["providers"]["gigachat"], found["providers"]["own"]
    assert (giga["owner"], giga["source"], giga["slots"]["at_once"]) == ("the file", source, 10)
    assert giga["settings"]["api_key"] == "***"
    assert giga["settings"]["proxy"] == "http://***@proxy.example:3128"
    assert giga["models"]["gigachat/GigaChat-2-Pro"]["price"]["input_per_1m"] == "500"
    assert own["slots"]["at_once"] == 4
    assert own["models"]["own/m"]["price"]["input_per_1m"] == "1"
    assert own["models"]["own/m"]["later"][0]["valid_from"] == "2100-01-01"
    assert own["models"]["own/m"]["later"][0]["input_per_1m"] == "3"
    assert own["models"]["own/free"]["price"] == {"currency": "RUB", "unpriced": True}
    assert found["aliases"]["smart"] == {"owner": "the file", "source": source, "models": ["own/m"]}
    assert found["aliases"]["gigachat-pro"]["owner"] == "xrouter"
    assert found["defaults"] == {"model": "smart", "chat": "gigachat/GigaChat-2-Pro"}
    assert SECRET not in result.stdout


ROUTED = """\
providers:
  own:
    kind: vllm
    base_url: https://llm.example.com/v1
    models: [m, n, {name: r, region: ru}]
aliases: {both: [own/m]}
routes:
  good: {models: [own/m, own/n], weights: {own/m: 2}}
  both: {models: [own/m]}
  nothing: {}
  lost: {models: [own/x], canary: {model: own/y, percent: 5}, fallbacks: {context_length: [own/z]}}
  typing: {models: [own/m], strategy: wieghted, wegihts: {own/m: 1}}
  weighed: {models: [own/m], weights: {own/m: -1}}
  ruled:
    models: [own/m]
    rules:
      - {when: {tags: {any: [a], none: [a]}}, models: [own/n]}
      - {when: {tag: a}, models: [own/n]}
      - {when: {tags: a}, modles: [own/q]}
  placed: {models: [own/m], regions: [ru]}
  tagged: {models: [own/m], rules: [{when: {stream: true}, with_tags: [gpu]}]}
routing: {strategy: fastets}
"""


def test_what_is_wrong_with_a_route_is_found_with_its_line(run: Run, tmp_path: Path) -> None:
    said = str(run(ROUTED, "check").exception).splitlines()
    path = tmp_path / "xrouter.yaml"
    expected = [
        (9, "routes.both: is an alias, too; keep one of them"),
        (10, "routes.nothing: needs models: its name is not that of a model"),
        (11, "routes.lost.models.0: names the unknown model 'own/x'; did you mean 'own/"),
        (11, "routes.lost.canary.model: names the unknown model 'own/y'"),
        (11, "routes.lost.fallbacks.context_length.0: names the unknown model 'own/z'"),
        (12, "routes.typing.strategy: 'wieghted' is no strategy; did you mean 'weighted'?"),
        (12, "routes.typing.wegihts: is not a known key; did you mean 'weights'?"),
        (13, "routes.weighed.weights.own/m: must be above 0"),
        (17, "routes.ruled.rules.0: when: can never hold"),
        (18, "routes.ruled.rules.1: when: 'tag' is no fact of a request; did you mean 'tags'?"),
        (19, "routes.ruled.rules.2.modles: is not a known key; did you mean 'models'?"),
        (20, "routes.placed: allows ru, where no deployment is"),
        (21, "routes.tagged: rule 0: asks for gpu, which no deployment has"),
        (22, "routing.strategy: 'fastets' is no strategy; did you mean 'fastest'?"),
    ]
    lost = [
        (line, words) for line, words in expected if not any(one.startswith(f"{path}:{line}: {words}") for one in said)
    ]
    assert lost == [], "\n".join(said)
    assert len(said) == len(expected), "\n".join(said)


def test_a_good_route_is_counted_and_explained(run: Run, tmp_path: Path) -> None:
    text = FILE + "routes: {quick: {models: [own/m, own/free], strategy: fastest, regions: [ru]}}\n"
    text = text.replace("      - free\n", "      - {name: free, region: ru}\n")
    assert run(text, "check").stdout == "good: 2 providers, 3 models, 2 aliases, 1 routes\n"
    found = yaml.safe_load(run(text, "explain").stdout)
    assert found["routes"]["quick"] == {
        "owner": "the file",
        "source": f"file {tmp_path / 'xrouter.yaml'}",
        "models": ["own/m", "own/free"],
        "strategy": "fastest",
        "regions": ["ru"],
    }


def test_each_credential_of_a_provider_is_explained_and_none_is_shown(run: Run) -> None:
    keys = ("Zmlyc3Q6Zmlyc3Q=", "c2Vjb25kOnNlY29uZA==")
    file = f"""
providers:
  giga:
    kind: gigachat
    models: [GigaChat-2, Embeddings]
    credentials:
      - api_key: {keys[0]}
      - name: spare
        api_key: {keys[1]}
        scope: GIGACHAT_API_CORP
        options: {{user: never shown}}
"""
    result = run(file.replace("        options: {user: never shown}\n", ""), "check")
    assert (result.exit_code, result.stdout.split(",")[:2]) == (0, ["good: 1 providers", " 2 models"])
    result = run(file.replace("        options: {user: never shown}\n", ""), "explain")
    found = yaml.safe_load(result.stdout)["providers"]["giga"]
    assert {name: slots["at_once"] for name, slots in found["slots"].items()} == {"giga#1": 1, "giga#spare": 10}
    assert found["settings"]["credentials"][1] == {"api_key": "***", "name": "spare", "scope": "GIGACHAT_API_CORP"}
    assert [*found["models"]] == ["giga/GigaChat-2", "giga/Embeddings"]
    wrong = run(file, "check")
    assert wrong.exit_code == 1
    said = str(wrong.exception)
    assert "providers.giga.credentials.1.options: user and password belong together" in said
    assert not [key for key in keys if key in result.stdout + said]
