"""Files that a client shows to GigaChat: uploaded, referred to, and gone again whatever became of the call."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.providers.gigachat_stand import MODEL, V2, Stand, answer, asked, attempt, stand, until
from tests.providers.scripted import Reply, ScriptedTransport, collect, connect

from xrouter.core.errors import Invalid, ProviderRefused, ProviderUnavailable
from xrouter.providers.gigachat import GigaChat
from xrouter.providers.gigachat.fetch import Fetcher
from xrouter.providers.gigachat.uploads import Upload, multipart, read_part
from xrouter.transport import BrokenOff, CannotConnect
from xrouter.transport.client import open_transport

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 10
HOST = "pictures.example.test"


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def image(url: str = data_url(PNG)) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def file(data: str, name: str = "Иванов И.И. паспорт.pdf") -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, "filename": name}}


def audio(data: bytes = b"RIFF", form: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": form}}


def text(words: str = "echo: вижу") -> dict[str, Any]:
    return {"type": "text", "text": words}


def showing(*parts: dict[str, Any], stream: bool = False, **more: Any) -> Any:
    return asked(messages=[{"role": "user", "content": [text(), *parts]}], stream=stream, **more)


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Stand]:
    async with stand() as running:
        yield running


@pytest.fixture(params=["v1", "v2"])
def contract(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"options": V2} if request.param == "v2" else {}


async def gone(place: Stand, count: int = 1) -> None:
    """Wait until `count` files were uploaded and none of them is left."""

    async def all_deleted() -> bool:
        uploads = [row for row in await place.rows("/v1/files") if row["method"] == "POST"]
        deletes = await place.rows("/delete")
        return len(uploads) == count == len([row for row in deletes if row["status"] == 200])

    await until(all_deleted)
    assert await place.stored() == []


# ── the life of a file ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True])
async def test_a_file_lives_for_one_call(place: Stand, contract: Any, stream: bool) -> None:
    provider = place.connect(**contract)
    request = showing(image(), file(data_url(b"%PDF", "application/pdf")), audio(), stream=stream)
    events = await collect(provider, request, attempt(request))
    said = events[0].choices[0].message.content if not stream else "".join(getattr(e, "text", "") for e in events)
    assert said == "вижу"
    await gone(place, 3)


async def test_what_is_uploaded_is_what_the_client_sent(place: Stand) -> None:
    provider = place.connect()
    request = showing(image(), stream=True)
    async with aclosing(provider.chat(request, attempt(request))) as events:
        await anext(events)
        (stored,) = await place.stored()
        assert (stored["filename"], stored["bytes"]) == ("file.png", len(PNG))
    await gone(place)


async def test_the_same_file_twice_in_a_call_is_uploaded_once(place: Stand, contract: Any) -> None:
    message = {"role": "user", "content": [text(), image()]}
    again = [message, {"role": "assistant", "content": "да"}, message]
    await answer(place.connect(**contract), asked(messages=again))
    await gone(place, 1)


@pytest.mark.parametrize("fault", ["status-500", "status-422", "reset-0", "error-0", "broken-json-0", "empty"])
@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_deleted_when_the_call_fails(place: Stand, contract: Any, fault: str, stream: bool) -> None:
    provider, request = place.connect(**contract), showing(image(), stream=stream)
    with pytest.raises((ProviderUnavailable, ProviderRefused)):
        await collect(provider, request, attempt(request, f"{MODEL}+{fault}"))
    await gone(place)


async def test_it_is_deleted_when_the_client_leaves_a_stream(place: Stand, contract: Any) -> None:
    provider, request = place.connect(**contract), showing(image(), stream=True)
    events = provider.chat(request, attempt(request, f"{MODEL}+stall-1"))
    await anext(events)
    assert len(await place.stored()) == 1
    await events.aclose()
    await gone(place)


async def test_it_is_deleted_when_the_call_is_cancelled_in_the_middle(place: Stand, contract: Any) -> None:
    provider, request = place.connect(**contract), showing(image())
    asking = asyncio.create_task(collect(provider, request, attempt(request, f"{MODEL}+slow-headers")))

    async def waits() -> bool:
        return bool(await place.rows("/chat/completions"))

    await until(waits)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await gone(place)


async def test_an_upload_under_way_is_carried_to_its_end_so_that_it_can_be_deleted(place: Stand) -> None:
    provider, request = place.connect(), showing(image())
    began = asyncio.Event()
    upload = provider._files.upload

    async def noticed(one: Upload) -> str:
        began.set()
        return await upload(one)

    provider._files.upload = noticed  # type: ignore[method-assign]  # the one moment that a test cannot time otherwise
    asking = asyncio.create_task(collect(provider, request, attempt(request)))
    await began.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await gone(place)
    assert await place.rows("/chat/completions") == []


async def test_closing_waits_for_deletions(place: Stand) -> None:
    provider = place.connect()
    await answer(provider, showing(image()))
    await provider.close()
    deletes = [row for row in await place.rows("/delete") if row["status"] == 200]
    assert len(deletes) == 1
    assert await place.stored() == []


async def test_a_file_that_cannot_be_deleted_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("xrouter.providers.gigachat.files._BETWEEN_TRIES_S", 0.0)
    deletes = 0

    def vendor(sent: Any) -> Reply:
        nonlocal deletes
        if sent.url.endswith("/oauth"):
            return Reply(chunks=[b'{"access_token":"t","expires_at":99999999999999}'])
        if sent.url.endswith("/delete"):
            deletes += 1
            return Reply(500, {}, [b'{"status":500,"message":"Internal Server Error"}'])
        if sent.url.endswith("/files"):
            return Reply(chunks=[b'{"id":"f-1"}'])
        return Reply(chunks=[b'{"choices":[{"message":{"content":"ok"},"finish_reason":"stop"}]}'])

    provider, _ = connect("gigachat", vendor)
    assert isinstance(provider, GigaChat)
    await collect(provider, showing(image()))
    await provider.close()
    assert deletes == 3
    told = capsys.readouterr().out
    assert "file_not_deleted" in told
    assert "f-1" in told


async def test_an_upload_that_is_refused_sends_no_chat(place: Stand) -> None:
    await place.control("settings", limits={})
    many = [image(data_url(PNG + bytes([number]))) for number in range(2)]
    messages = [{"role": "user", "content": [text(), one]} for one in many]
    bad = {"role": "user", "content": [file("data:text/plain;base64,", "a.txt")]}
    with pytest.raises(Invalid, match=r"messages\[2\].content\[0\].file.file_data: is empty"):
        await answer(place.connect(), asked(messages=[*messages, bad]))
    assert await place.rows() == []


# ── what may be shown ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("part", "kind", "mime", "data"),
    [
        (image(), "image", "image/png", PNG),
        (image("DATA:image/JPG;base64,/9j/"), "image", "image/jpeg", b"\xff\xd8\xff"),
        (file(data_url(b"%PDF", "application/pdf")), "document", "application/pdf", b"%PDF"),
        (file(data_url(b"a", ""), "a.TXT"), "document", "text/plain", b"a"),
        (file(base64.b64encode(b"a").decode(), "a.docx"), "document", None, b"a"),
        (file(data_url(b"a", "text/plain;charset=utf-8")), "document", "text/plain", b"a"),
        (audio(b"ID3", "mp3"), "audio", "audio/mpeg", b"ID3"),
    ],
)
def test_parts(part: Any, kind: str, mime: str | None, data: bytes) -> None:
    found = read_part(part, "p")
    assert (found.kind, found.data, found.url) == (kind, data, "")
    assert mime is None or found.mime == mime


def test_a_part_that_lies_elsewhere_is_not_read_yet() -> None:
    found = read_part(image(f"https://{HOST}/cat.png"), "p")
    assert (found.url, found.data) == (f"https://{HOST}/cat.png", b"")


@pytest.mark.parametrize(
    ("part", "param", "says"),
    [
        ({"type": "image_url"}, "image_url", "must be an object"),
        (image("cat.png"), "image_url.url", "must be a data URL or an https URL"),
        (image("data:image/png,raw"), "image_url.url", "must hold base64"),
        (image("data:image/png;base64,####"), "image_url.url", "is no base64"),
        (image("data:image/png;base64,"), "image_url.url", "is empty"),
        (
            image(data_url(b"a", "image/webp")),
            "image_url.url",
            "of type image/webp; GigaChat takes jpg, png, tiff, bmp",
        ),
        (image(data_url(b"a" * (15 * 1024 * 1024 + 1))), "image_url.url", "larger than 15 MB"),
        ({"type": "file", "file": {"file_id": "f"}}, "file", "no stored files"),
        (file(data_url(b"MZ", "application/x-dosexec"), "a.exe"), "file.file_data", "is of type application/x-dosexec"),
        (file("AAAA", "a.exe"), "file.file_data", "is of type unknown"),
        (file(""), "file.file_data", "must be a data URL"),
        (audio(form="flac"), "input_audio.format", "must be wav or mp3"),
        ({"type": "input_audio", "input_audio": {"format": "wav"}}, "input_audio.data", "must be a string"),
    ],
)
def test_parts_that_are_refused(part: Any, param: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_part(part, "messages[0].content[1]")
    assert caught.value.param == f"messages[0].content[1].{param}"
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([{"role": "user", "content": [image(), image(data_url(b"other"))]}], "one image per message"),
        ([{"role": "user", "content": [image(data_url(bytes([n + 1])))]} for n in range(11)], "at most 10 images"),
        ([{"role": "assistant", "content": [image()]}], "only a user's message"),
        ([{"role": "system", "content": [image()]}], "only a user's message"),
    ],
)
async def test_where_files_may_stand(place: Stand, messages: Any, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        await answer(place.connect(), asked(messages=messages))
    assert await place.rows() == []


async def test_contract_v2_takes_several_images_in_a_message(place: Stand) -> None:
    request = showing(image(), image(data_url(b"other")))
    assert (await answer(place.connect(options=V2), request)).choices[0].message.content == "вижу"
    await gone(place, 2)


def test_the_name_of_a_file_stays_here() -> None:
    body = multipart(read_part(file(data_url(b"%PDF\r\n--b--", "application/pdf")), "p"), "b")
    assert b'filename="file.pdf"' in body
    assert "Иванов".encode() not in body
    assert body.endswith(b"%PDF\r\n--b--\r\n--b--\r\n")


# ── files that lie elsewhere ─────────────────────────────────────────────────────────────────────────────


def elsewhere(reply: Any) -> Fetcher:
    return Fetcher(lambda: ScriptedTransport(lambda _: reply))


WANTED = Upload(f"https://{HOST}/cat", "messages[0].content[0].image_url.url", "image", "", url=f"https://{HOST}/cat")


async def test_a_file_is_fetched_with_the_type_that_its_server_says() -> None:
    reply = Reply(headers={"content-type": "image/png; charset=binary"}, chunks=[PNG[:5], PNG[5:]])
    found = await elsewhere(reply).fetch(WANTED)
    assert (found.data, found.mime, found.source) == (PNG, "image/png", WANTED.source)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(404), "its server answered 404"),
        (Reply(302, {"location": "http://169.254.169.254/"}), "its server answered 302"),
        (Reply(headers={"content-type": "text/html"}, chunks=[b"<html>"]), "is of type text/html"),
        (Reply(chunks=[PNG]), "is of type unknown"),
        (Reply(headers={"content-type": "image/png"}), "is empty"),
        (Reply(headers={"content-type": "image/png"}, chunks=[b"x" * 1024 * 1024] * 16), "is too large"),
        (Reply(headers={"content-type": "image/png"}, chunks=[PNG], breaks=BrokenOff("eof", "")), "connection failed"),
        (CannotConnect("forbidden_address", "127.0.0.1 is loopback"), "may not be fetched"),
        (CannotConnect("dns", "no such host"), "cannot be looked up"),
        (CannotConnect("refused", "10.0.0.7:443: refused"), "the connection failed"),
    ],
)
async def test_a_file_that_cannot_be_had_is_the_clients_mistake(reply: Any, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        await elsewhere(reply).fetch(WANTED)
    assert caught.value.param == WANTED.param
    assert says in caught.value.message
    assert not any(secret in caught.value.message for secret in ("10.0.0.7", "127.0.0.1", "169.254"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/gigachat/v1/models",
        "https://127.0.0.1:{port}/x",
        "https://localhost:{port}/x",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.7/x",
        "http://example.test/x",
        "https://[::1]/x",
        "https://user:password@example.test/x",
    ],
)
async def test_the_vendors_own_network_is_not_the_clients(place: Stand, url: str) -> None:
    """The account's host and its private networks were opened for the vendor, not for whoever names an address."""
    provider = place.connect(allow_private=["10.0.0.0/8", "127.0.0.0/8"])
    with pytest.raises(Invalid, match="may not be fetched"):
        await answer(provider, showing(image(url.format(port=place.port))))
    assert await place.rows() == []


async def test_a_file_over_a_real_connection(place: Stand, tmp_path: Path) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    seen: list[Any] = []

    async def cat(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(body=PNG, content_type="image/png")

    app = web.Application()
    app.router.add_get("/cat.png", cat)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=tls)
    try:
        provider = place.connect()
        provider._files._fetcher = Fetcher(
            lambda: open_transport(
                provider="acme files",
                connect_timeout_s=5,
                ca_bundle=bundle,
                proxy=None,
                allow_private=[],
                trusted_hosts=frozenset({"127.0.0.1"}),
            )
        )
        request = showing(image(f"https://127.0.0.1:{server.port}/cat.png"))
        assert (await answer(provider, request)).choices[0].message.content == "вижу"
        assert "Authorization" not in seen[0]
        await gone(place)
    finally:
        await server.close()


async def test_a_slow_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xrouter.providers.gigachat.fetch._FETCH_S", 0.05)
    with pytest.raises(Invalid, match="did not arrive"):
        await elsewhere(Reply(headers={"content-type": "image/png"}, chunks=[PNG], holds=True)).fetch(WANTED)
