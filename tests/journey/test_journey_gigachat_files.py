"""A picture shown to GigaChat through the whole product: seen by the model, and gone from the vendor afterwards."""

import asyncio
import base64
from typing import Any

import pytest
from campaigns.stage import Gateway, Simulators, wait_until
from tests.journey.calls import CHAT, chats_seen, session
from tests.journey.conftest import GIGACHAT, GIGACHAT_V2, Sdk

URL = f"data:image/png;base64,{base64.b64encode(b'pixels').decode()}"
SHOWN: Any = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "echo: вижу"}, {"type": "image_url", "image_url": {"url": URL}}],
    }
]


def uploads_and_deletions(vendors: Simulators) -> tuple[int, int]:
    """How many files were taken, and how many given back, since the test began."""
    rows = [row for row in vendors.requests() if row["method"] == "POST" and row["status"] == 200]
    return (
        len([row for row in rows if row["path"].endswith("/v1/files")]),
        len([row for row in rows if row["path"].endswith("/delete")]),
    )


@pytest.mark.parametrize("model", [GIGACHAT, GIGACHAT_V2])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_picture_is_seen_and_deleted(vendors: Simulators, sdk: Sdk, model: str, stream: bool) -> None:
    if stream:
        chunks = await sdk.stream(model, messages=SHOWN)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        said = (await sdk.chat(model, messages=SHOWN)).choices[0].message.content
    assert said == "вижу"
    await asyncio.to_thread(wait_until, "the deletion", lambda: uploads_and_deletions(vendors) == (1, 1), 10.0)


@pytest.mark.parametrize("model", [GIGACHAT, GIGACHAT_V2])
async def test_a_picture_is_deleted_when_the_client_leaves(vendors: Simulators, place: Gateway, model: str) -> None:
    async with session(place) as client:
        body = {"model": f"{model}+stall-1", "messages": SHOWN, "stream": True}
        async with client.post(CHAT, json=body) as answer:
            await answer.content.readany()
            assert uploads_and_deletions(vendors) == (1, 0)
    await asyncio.to_thread(wait_until, "the deletion", lambda: uploads_and_deletions(vendors) == (1, 1), 10.0)
    assert len(chats_seen(vendors)) == 1
