"""What a key may do, over HTTP with two workers and the official SDK; and for whom it asks."""

import concurrent.futures
import json
from time import monotonic  # noqa: TID251 - a deadline
from typing import Any
from urllib.request import Request, urlopen

import openai
import pytest
from campaigns.stage import Gateway, http, wait_until
from tests.journey.calls import CHAT, chat_body
from tests.journey.conftest import GIGACHAT, TBANK
from tests.journey.test_journey_keys import ALLOWED_S, xrouter

IN_FORCE_S = 5.0


def make(place: Gateway, kind: str, **fields: Any) -> Any:
    status, made = http("POST", f"{place.url}/admin/{kind}", {"name": kind, **fields}, place.key)
    assert status == 201, made
    return made


def sdk(place: Gateway, key: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{place.url}/v1", max_retries=0)


def test_the_official_client_learns_what_its_key_may_do(pair: Gateway) -> None:
    key = make(pair, "keys", models=["tbank/*"], operations=["chat"])["key"]
    with sdk(pair, key) as client:
        answer = client.chat.completions.create(model=TBANK, messages=[{"role": "user", "content": "echo: hi"}])
        assert answer.choices[0].message.content == "hi"
        with pytest.raises(openai.PermissionDeniedError, match="may use: tbank/\\*") as refused:
            client.chat.completions.create(model=GIGACHAT, messages=[{"role": "user", "content": "hi"}])
        assert refused.value.code == "model_not_allowed"
        listed = {model.id for model in client.models.list()}
        assert {TBANK, "both"} <= listed
        assert not [name for name in listed if name.startswith("gigachat/")]
        with pytest.raises(openai.PermissionDeniedError):
            client.models.retrieve(GIGACHAT)
        fallen_back = client.chat.completions.create(model="both", messages=[{"role": "user", "content": "echo: b"}])
        assert fallen_back.choices[0].message.content == "b"
    vectors = make(pair, "keys", operations=["embeddings", "rerank"])["key"]
    with (
        sdk(pair, vectors) as client,
        pytest.raises(openai.PermissionDeniedError, match="only for: embeddings, rerank"),
    ):
        client.chat.completions.create(model=TBANK, messages=[{"role": "user", "content": "hi"}])
    _, body = http("POST", f"{pair.url}/api{CHAT}", chat_body(GIGACHAT), key)
    assert (body["error"]["code"], body["error"]["metadata"]["code"]) == (403, "model_not_allowed")


def test_a_key_that_is_bound_to_networks_works_from_there_only(pair: Gateway) -> None:
    here, elsewhere = (make(pair, "keys", networks=[net]) for net in ("127.0.0.0/8", "192.0.2.0/24"))
    assert http("POST", f"{pair.url}{CHAT}", chat_body(TBANK), here["key"])[0] == 200
    for method, path, body in (
        ("POST", CHAT, chat_body(TBANK)),
        ("GET", "/v1/models", None),
        ("GET", "/api/v1/key", None),
    ):
        status, answer = http(method, f"{pair.url}{path}", body, elsewhere["key"])
        assert status == 403
        assert "127.0.0.1" in answer["error"]["message"]
        assert "192.0.2.0/24" in answer["error"]["message"]
    forged = Request(f"{pair.url}/v1/models", headers={
        "Authorization": f"Bearer {elsewhere['key']}", "X-Forwarded-For": "192.0.2.1",
    })  # fmt: skip
    with pytest.raises(OSError, match="403"):
        urlopen(forged, timeout=10)


def test_what_happens_above_a_key_is_in_force_on_every_worker(pair: Gateway) -> None:
    organisation = make(pair, "organisations")
    team = make(pair, "teams", organisation_id=organisation["id"])
    user = make(pair, "users", team_id=team["id"])
    key = make(pair, "keys", user_id=user["id"])["key"]

    def statuses() -> set[int]:
        return {http("POST", f"{pair.url}{CHAT}", chat_body(TBANK), key)[0] for _ in range(8)}

    assert statuses() == {200}
    for path in (f"users/{user['id']}", f"teams/{team['id']}", f"organisations/{organisation['id']}"):
        for disabled, expected in ((True, {401}), (False, {200})):
            assert http("PATCH", f"{pair.url}/admin/{path}", {"disabled": disabled}, pair.key)[0] == 200
            wait_until(f"{expected} after {path} {disabled}", lambda: statuses() == expected, ALLOWED_S)  # noqa: B023
    assert xrouter(pair, "teams", "set", team["id"], "--model", "nothing/*").returncode == 0
    wait_until("403 on every worker", lambda: statuses() == {403}, ALLOWED_S)
    # Eight calls may all have come to one worker; whoever is asked now may learn of it a moment later.
    wait_until("the new models are shown", lambda: _shown(pair, key)["models"] == [["nothing/*"]], ALLOWED_S)
    assert _shown(pair, key)["organization_id"] == organisation["id"]


def _shown(pair: Gateway, key: str) -> Any:
    return http("GET", f"{pair.url}/api/v1/key", key=key)[1]["data"]


def test_a_hundred_keys_revoked_in_parallel_are_refused_by_both_workers_within_five_seconds(pair: Gateway) -> None:
    """Real processes and sockets; a thousand trials of every change are in tests/stores/test_accounts.py."""
    made = [make(pair, "keys") for _ in range(100)]

    def revoke(key: Any) -> float:
        refused = 0
        assert http("GET", f"{pair.url}/v1/models", key=key["key"])[0] == 200
        assert http("DELETE", f"{pair.url}/admin/keys/{key['id']}", key=pair.key)[0] == 200
        began = monotonic()
        while refused < 6:  # each connection goes to whichever worker takes it
            status = http("GET", f"{pair.url}/v1/models", key=key["key"])[0]
            assert status in (200, 401)
            refused = refused + 1 if status == 401 else 0
            assert monotonic() - began < IN_FORCE_S
        return monotonic() - began

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert max(pool.map(revoke, made)) < IN_FORCE_S


def test_a_rotated_key_works_with_both_secrets_and_then_with_one(pair: Gateway) -> None:
    made = make(pair, "keys")
    status, fresh = http("POST", f"{pair.url}/admin/keys/{made['id']}/rotate", {"grace_s": 3600}, pair.key)
    assert status == 200

    def statuses(secret: str) -> set[int]:
        return {http("POST", f"{pair.url}{CHAT}", chat_body(TBANK), secret)[0] for _ in range(8)}

    for secret in (made["key"], fresh["key"]):
        wait_until("both secrets on every worker", lambda: statuses(secret) == {200}, ALLOWED_S)  # noqa: B023
    _, last = http("POST", f"{pair.url}/admin/keys/{made['id']}/rotate", {"grace_s": 0}, pair.key)
    wait_until("the last secret alone", lambda: statuses(fresh["key"]) == {401}, ALLOWED_S)
    assert statuses(last["key"]) == {200}


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"user": "anna@example.com"}, {}),
        ({"safety_identifier": "anna@example.com", "user": "somebody else"}, {}),
        ({}, {"X-OpenWebUI-User-Id": "anna@example.com"}),
        ({}, {"X-LibreChat-User-Id": "anna@example.com"}),
        ({}, {"x-litellm-end-user-id": "anna@example.com"}),
        ({"user": ""}, {"x-xrouter-end-user": " anna@example.com "}),
    ],
)
def test_the_books_know_an_end_user_by_a_pseudonym_only(
    pair: Gateway, fields: dict[str, str], headers: dict[str, str]
) -> None:
    key = make(pair, "keys")
    request = Request(
        f"{pair.url}{CHAT}",
        json.dumps(chat_body(TBANK) | fields).encode(),
        {"Authorization": f"Bearer {key['key']}", "Content-Type": "application/json", **headers},
    )
    with urlopen(request, timeout=10) as answer:
        assert answer.status == 200

    def booked() -> Any:
        return http("GET", f"{pair.url}/admin/attempts?key_id={key['id']}", key=pair.key)[1]["data"]

    (row,) = wait_until("the attempt in the books", booked)
    assert row["end_user"].startswith("eu_")
    assert len(row["end_user"]) == 35
    same = http("GET", f"{pair.url}/admin/attempts?end_user={row['end_user']}", key=pair.key)[1]["data"]
    assert row in same
    assert not [
        path.name for path in (pair.directory / "data").rglob("*") if path.is_file() and b"anna@" in path.read_bytes()
    ]
    assert "anna@" not in pair.log.read_text()
