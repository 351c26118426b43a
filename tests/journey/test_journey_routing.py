"""Routes, variants and OpenRouter's `provider`, over sockets: who serves is what the vendors saw."""

import base64
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from campaigns.stage import Gateway, Simulators, config_for, gateway
from openai import AsyncOpenAI
from tests.journey.calls import chats_seen
from tests.journey.conftest import GIGACHAT, TBANK, mts_and_anthropic

MTS = "mts/t-pro-it-2.1"
MAX = "gigachat/GigaChat-2-Max"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 64).decode()
ROUTES = {
    "smart": {"models": [GIGACHAT, TBANK, MTS]},
    "shared": {"models": [GIGACHAT, TBANK], "weights": {GIGACHAT: 3}},
    "sticky": {"models": [GIGACHAT, TBANK, MTS], "strategy": "sticky", "sticky": ["session"]},
    "cheap": {"models": [GIGACHAT, TBANK], "strategy": "cheapest"},
    "russian": {"models": [TBANK, GIGACHAT], "regions": ["ru"]},
    "ruled": {
        "models": [GIGACHAT],
        "rules": [
            {"when": {"tags": "batch"}, "models": [TBANK]},
            {"when": {"inputs": "image"}, "models": [MAX]},
            {"when": {"metadata.plan": "free"}, "models": [MTS]},
        ],
    },
    "canaried": {"models": [GIGACHAT], "canary": {"model": TBANK, "percent": 50}},
    "polite": {"models": [GIGACHAT], "fallbacks": {"content_policy": [TBANK]}},
    "long": {"models": [TBANK], "fallbacks": {"context_length": [GIGACHAT]}},
}


@pytest.fixture(scope="module")
def routed(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = config_for(vendors.url)
    config["providers"] |= {"mts": mts_and_anthropic(vendors.url)["mts"]}
    config["providers"]["gigachat"] |= {"region": "ru", "tags": ["zdr"]}
    config["providers"]["tbank"]["models"][0] |= {
        "inputs": ["text"],
        "context_tokens": 8_000,
        "price": {"input_rub_per_1m": 5, "output_rub_per_1m": 6},
    }
    with gateway(tmp_path_factory.mktemp("routed"), config | {"routes": ROUTES}) as running:
        yield running


@pytest_asyncio.fixture(params=["/v1", "/api/v1"])
async def client(request: pytest.FixtureRequest, routed: Gateway, vendors: Simulators) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=routed.url + request.param, api_key=routed.key, max_retries=2, timeout=30
    ) as client:
        yield client


async def served(client: AsyncOpenAI, model: str, wishes: dict[str, Any] | None = None, **more: Any) -> str:
    """The deployment that answered; for a refusal its status and code."""
    body = {} if wishes is None else {"provider": wishes}
    body |= more.pop("body", {})
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=model,
            messages=more.pop("messages", [{"role": "user", "content": "echo: hi"}]),
            extra_body=body,
            **more,
        )
    except openai.APIStatusError as error:
        found: Any = error.body
        return f"{error.status_code} {found['metadata'].get('code', found['code'])}"
    found = raw.parse()
    if more.get("stream"):
        chunks = [chunk async for chunk in found]
        assert {chunk.model for chunk in chunks} == {model}
    else:
        assert found.model == model
        assert found.choices[0].message.content
    return str(raw.headers["x-xrouter-model"])


@pytest.mark.parametrize(
    ("model", "wishes", "expected"),
    [
        ("smart", None, GIGACHAT),
        ("smart", {"order": ["mts"]}, MTS),
        ("smart", {"order": ["mts", "tbank"], "allow_fallbacks": False}, MTS),
        ("smart", {"only": ["tbank"]}, TBANK),
        ("smart", {"ignore": ["gigachat"]}, TBANK),
        ("smart", {"sort": "price"}, TBANK),
        ("smart", {"sort": {"by": "price", "partition": "none"}}, TBANK),
        ("smart", {"data_region": "ru", "order": ["tbank"]}, GIGACHAT),
        ("smart", {"zdr": True}, GIGACHAT),
        ("smart", {"max_price": {"prompt": 40, "completion": 80}}, TBANK),
        ("smart:floor", None, TBANK),
        ("cheap", None, TBANK),
        ("russian", None, GIGACHAT),
        ("smart", {"only": ["openai"]}, "400 no_route"),
        ("smart", {"max_price": {"prompt": 0}}, "400 no_route"),
        ("russian", {"only": ["tbank"]}, "503 no_route"),
        ("smart", {"data_region": "eu"}, "400 no_route"),
        ("smart", {"sort": "beauty"}, "400 invalid_value"),
        ("smart", {"max_price": {"prompt": -1}}, "400 invalid_value"),
        ("smart", {"preferred_max_latency": {"p90": 0}}, "400 invalid_value"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_request_decides_who_serves(
    client: AsyncOpenAI, model: str, wishes: dict[str, Any] | None, expected: str, stream: bool
) -> None:
    assert await served(client, model, wishes, stream=stream) == expected


async def test_the_fastest_variant_is_a_name_of_the_same_model(client: AsyncOpenAI) -> None:
    for _ in range(3):  # who is the fastest is what these streams find out
        assert await served(client, "smart:nitro", stream=True) in (GIGACHAT, TBANK, MTS)
    assert await served(client, f"{GIGACHAT}:nitro") == GIGACHAT
    assert await served(client, "smart:turbo") == "404 model_not_found"


async def test_a_refusal_says_what_took_each_one_out_and_is_not_repeated(
    client: AsyncOpenAI, vendors: Simulators
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(
            model="russian",
            messages=[{"role": "user", "content": "hi"}],
            extra_body={"provider": {"ignore": ["gigachat"]}},
        )
    error: Any = caught.value.body
    assert [(one["model"], one["filter"]) for one in error["metadata"]["removed"]] == [
        (TBANK, "region"),
        (GIGACHAT, "ignore"),
    ]
    assert "tbank/t-pro-it-2.1 has no region, and ru is demanded" in error["message"]
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in caught.value.response.headers
    assert int(caught.value.request.headers["x-stainless-retry-count"]) == 0
    assert chats_seen(vendors) == []


async def test_fallbacks_stay_within_what_was_asked_for(client: AsyncOpenAI, vendors: Simulators) -> None:
    vendors.control("faults", model="t-pro-it-2.1", fault="status-503")
    assert await served(client, "smart", {"order": ["tbank"]}) == GIGACHAT
    assert await served(client, "smart", {"order": ["tbank"], "allow_fallbacks": False}) == "502 provider_unavailable"
    vendors.control("reset")
    assert await served(client, TBANK) == TBANK  # whose last attempt failed is asked as far as the budget goes


async def test_the_list_of_models_is_tried_with_the_wishes(client: AsyncOpenAI) -> None:
    messages = [{"role": "user", "content": "echo: hi"}]
    raw = await client.chat.completions.with_raw_response.create(
        model=f"{GIGACHAT}+status-503",
        messages=messages,  # type: ignore[arg-type]
        extra_body={"models": [MAX, TBANK], "provider": {"ignore": [MAX]}},
    )
    assert raw.headers["x-xrouter-model"] == TBANK
    assert raw.parse().model == TBANK


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"ignore": ["TBank", GIGACHAT.upper()]}, None),
        ({"ignore": ["gigachta"]}, "provider.ignore=gigachta"),
        ({"order": ["mts", "открытый,\n"], "only": ["mts", "no/m"]}, "provider.order=??????????,provider.only=no/m"),
        ({"quantizations": ["fp8"], "experimental": 1}, "provider.quantizations,provider.experimental"),
        ({"quantizations": ["fp8"], "ignore": ["x"]}, "provider.quantizations,provider.ignore=x"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_nobody_follows_is_told(
    client: AsyncOpenAI, wishes: dict[str, Any], expected: str | None, stream: bool
) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="smart",
        messages=[{"role": "user", "content": "hi"}],
        stream=stream,
        extra_body={"provider": wishes},
    )
    assert raw.headers.get("x-xrouter-dropped-params") == expected


@pytest.mark.parametrize("field", ["order", "only", "ignore"])
async def test_a_strict_request_may_name_nobody_that_is_not_there(client: AsyncOpenAI, field: str) -> None:
    with pytest.raises(
        openai.BadRequestError, match=f"provider.{field}: no provider and no model is called 'gigachta'"
    ):
        await client.chat.completions.create(
            model="smart",
            messages=[{"role": "user", "content": "hi"}],
            extra_body={"provider": {field: ["gigachat", "gigachta"], "require_parameters": True}},
        )


async def test_pictures_and_long_texts_go_to_who_can(client: AsyncOpenAI) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, picture]}]
    assert await served(client, "ruled", messages=messages) == MAX
    assert await served(client, TBANK, messages=messages) == "400 model_not_supported"
    long = [{"role": "user", "content": "echo: " + "word " * 17_000}]
    assert await served(client, TBANK, messages=long) == "400 context_length_exceeded"
    assert await served(client, "long", messages=long) == GIGACHAT


async def test_a_vendors_refusal_opens_who_is_kept_for_it(client: AsyncOpenAI) -> None:
    asked = [{"role": "user", "content": "echo: forbidden topic"}]
    assert await served(client, "polite", messages=asked) == TBANK
    assert await served(client, "polite", {"allow_fallbacks": False}, messages=asked) == GIGACHAT
    assert await served(client, "polite", messages=asked, stream=True) == GIGACHAT, "its text was shown"
    assert await served(client, "polite") == GIGACHAT


async def test_rules_hold_by_tags_and_metadata(client: AsyncOpenAI) -> None:
    assert await served(client, "ruled") == GIGACHAT
    assert await served(client, "ruled", extra_headers={"x-xrouter-tags": "nightly, batch"}) == TBANK
    assert await served(client, "ruled", metadata={"plan": "free"}) == MTS


async def test_a_session_stays_and_sessions_spread(client: AsyncOpenAI) -> None:
    spread: Counter[str] = Counter()
    for number in range(12):
        header = {"x-xrouter-session": f"conversation {number}"}
        homes = {await served(client, "sticky", extra_headers=header) for _ in range(2)}
        homes.add(await served(client, "sticky", extra_headers=header, stream=True))
        assert len(homes) == 1
        spread.update(homes)
    assert len(spread) == 3
    by_body = {await served(client, "sticky", body={"prompt_cache_key": "conversation 5"}) for _ in range(2)}
    by_header = await served(client, "sticky", extra_headers={"x-xrouter-session": "conversation 5"})
    assert by_body == {by_header}
    assert await served(client, "sticky", extra_headers={"x-xrouter-session": "x" * 300}) == "400 invalid_value"


async def test_weights_and_canaries_share_the_calls(client: AsyncOpenAI) -> None:
    shared = Counter([await served(client, "shared") for _ in range(40)])
    assert set(shared) == {GIGACHAT, TBANK}
    assert shared[GIGACHAT] > shared[TBANK]
    canaried = Counter([await served(client, "canaried") for _ in range(40)])
    assert set(canaried) == {GIGACHAT, TBANK}


async def test_routes_are_on_the_list_of_models(client: AsyncOpenAI) -> None:
    listed = {model.id for model in (await client.models.list()).data}
    assert set(ROUTES) <= listed
