"""A server that nobody here has heard of: four lines of YAML, and the official SDK talks to it through the gateway."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from campaigns.stage import Simulators, gateway
from openai import NotFoundError, OpenAI

FOUR_LINES = """\
  newcomer:
    base_url: {url}/openai/v1
    api_key: its-own-key
    models: [t-lite-it-2.1]
"""
TOOL: Any = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


def test_four_lines_make_a_provider(vendors: Simulators, tmp_path: Path) -> None:
    assert len(FOUR_LINES.splitlines()) == 4
    vendors.control("settings", api_key="its-own-key")
    config = yaml.safe_load("providers:\n" + FOUR_LINES.format(url=vendors.url))
    with (
        gateway(tmp_path, config) as place,
        OpenAI(base_url=f"{place.url}/v1", api_key=place.key, max_retries=0, _strict_response_validation=True) as sdk,
    ):
        model = "newcomer/t-lite-it-2.1"
        assert [one.id for one in sdk.models.list()] == [model]
        asked: Any = [{"role": "user", "content": "echo: Привет"}]
        answer = sdk.chat.completions.create(model=model, messages=asked)
        assert (answer.choices[0].message.content, answer.model) == ("Привет", model)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 2
        chunks = list(sdk.chat.completions.create(model=model, messages=asked, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Привет"
        called = sdk.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "what time?"}], tools=[TOOL], tool_choice="required"
        )
        (call,) = called.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, call.function.arguments) == ("get_time", "{}")
        with pytest.raises(NotFoundError, match=r"newcomer/t-lite-it-2\.1"):
            sdk.chat.completions.create(model="newcomer/t-lite-it-2.2", messages=asked)
        assert {row["path"] for row in vendors.requests()} == {"/openai/v1/chat/completions"}
