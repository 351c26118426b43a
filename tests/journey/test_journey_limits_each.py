"""Limits for each end user and each tag, with two workers, over the admin API, the command line and the SDK."""

from typing import Any

import openai
import pytest
from campaigns.stage import Gateway, http
from tests.journey.conftest import TBANK
from tests.journey.test_journey_accounts import make, sdk
from tests.journey.test_journey_keys import xrouter


def ask(client: openai.OpenAI, user: str | None = None, tags: str | None = None) -> Any:
    return client.chat.completions.create(
        model=TBANK,
        messages=[{"role": "user", "content": "echo: hi"}],
        extra_body={} if user is None else {"user": user},
        extra_headers={} if tags is None else {"x-xrouter-tags": tags},
    )


def test_two_end_users_and_two_tags_are_counted_apart(pair: Gateway) -> None:
    organisation = make(pair, "organisations", name="each")
    team = make(pair, "teams", organisation_id=organisation["id"], limits=[
        {"unit": "requests", "amount": 3, "window": "day", "per": "end_user"},
        {"unit": "requests", "amount": 2, "window": "day", "per": "tag"},
    ])  # fmt: skip
    assert [limit["per"] for limit in team["limits"]] == ["end_user", "tag"]
    first, second = (make(pair, "keys", name=name, team_id=team["id"])["key"] for name in ("first", "second"))
    with sdk(pair, first) as one, sdk(pair, second) as other:
        for client in (one, other, one):
            ask(client, "anna@example.com")
        with pytest.raises(openai.RateLimitError) as refused:
            ask(other, "anna@example.com")
        assert "end user 'eu_" in refused.value.message
        assert "...' of team 'teams' has reached its limit of 3 requests per day" in refused.value.message
        assert "anna" not in str(refused.value.body)
        assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        for _ in range(3):
            ask(other, "boris@example.com")

        ask(one, tags="checkout, search")
        ask(other, tags="checkout")
        with pytest.raises(openai.RateLimitError, match="tag 'checkout' of team 'teams'"):
            ask(one, tags="search, checkout")
        ask(one, tags="search")
        with pytest.raises(openai.RateLimitError, match="tag 'search' of team 'teams'"):
            ask(other, "clara@example.com", "search")
        for _ in range(4):
            ask(one)
        with pytest.raises(openai.BadRequestError, match="at most 10 tags"):
            ask(one, tags=",".join(map(str, range(11))))


def test_the_command_line_sets_them_and_the_key_shows_them(pair: Gateway) -> None:
    key = make(pair, "keys", name="chat")
    changed = xrouter(pair, "keys", "set", key["id"], "--limit", "1 requests/day per end_user")
    assert changed.returncode == 0, changed.stderr
    assert "1 requests/day per end_user" in xrouter(pair, "keys", "show", key["id"]).stdout
    fresh = make(pair, "keys", name="fresh", limits=[{"unit": "concurrent", "amount": 2, "per": "tag"}])["key"]
    (shown,) = http("GET", f"{pair.url}/api/v1/key", key=fresh)[1]["data"]["limits"]
    assert (shown["level"], shown["owner"], shown["amount"]) == ("tag", "API key 'fresh'", 2)
    refused = xrouter(pair, "keys", "set", key["id"], "--limit", "1 requests/day per model")
    assert refused.returncode == 2
    assert "is no limit; write" in refused.stderr
