"""How to read one answer: the quirks of a row as far as they matter to one request."""

from typing import Literal

from msgspec import Struct

from .request import UpstreamRequest
from .rows import Row


class Reading(Struct, frozen=True):
    """`call_ids` begins the ids of tool calls that come without one.

    `may_be_misfiled`: reasoning without any answer is the answer. `reasoning_field`: one more name of reasoning.
    """

    call_ids: str
    think_tags: Literal["", "inline", "prefilled"] = ""
    tool_call_tags: bool = False
    may_be_misfiled: bool = False
    reasoning_field: str = ""


def reading(row: Row, upstream: UpstreamRequest, attempt_id: str) -> Reading:
    """The quirks that can show in the answer to `upstream`. The ids of calls follow from the attempt's, so
    they are unique for ever and the same however the stream was cut."""
    if upstream.path == "completions":  # no template, so no tags of one
        return Reading(call_ids=f"call_{attempt_id}")
    # With thinking off the template closes the tag itself.
    tags = "inline" if row.think_tags and upstream.thinking is False else row.think_tags
    switched_off = upstream.thinking is False and row.thinking_switch == "template"
    return Reading(
        call_ids=f"call_{attempt_id}",
        think_tags=tags,
        tool_call_tags=row.tool_call_tags and upstream.offers_tools,
        may_be_misfiled=switched_off or tags == "prefilled",
        reasoning_field=row.reasoning_field,
    )
