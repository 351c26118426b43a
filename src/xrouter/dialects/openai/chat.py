"""`POST /v1/chat/completions`, streamed or whole."""

from xrouter.dialects.openai import chat_answer, chat_request
from xrouter.dialects.openai.endpoint import Asked, Form
from xrouter.dialects.openai.fields import preferred


def _parse(body: bytes) -> Asked:
    request, preferences = preferred(chat_request.parse(body))
    return Asked(request, chat_answer.whole, chat_answer.ChunkWriter, preferences)


FORM = Form("chatcmpl", _parse)
