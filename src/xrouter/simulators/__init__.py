"""Faithful fake vendors: GigaChat, Yandex AI Studio, vLLM, MWS and Anthropic, in one process of their own.

They are the upstreams of the demo, of the tests and of the benchmarks. They outlive a killed gateway, so
what they counted is the truth about what it sent. `xrouter simulate` runs them; `server.running()` opens
them inside a test.

Paths
    /gigachat/api/v2/oauth   the login, and /gigachat/v1/... the API of GigaChat (contract v1)
    /openai/v1/...           chat, completions, embeddings, rerank, images and models as vLLM serves them;
                             /openai/health, /openai/tokenize
    /yandex/v1/...           Yandex AI Studio's OpenAI-compatible API, /yandex/foundationModels/v1/... its native one,
                             /yandex/operations/..., and /yandex/iam/v1/... the login
    /mts/projects/demo/...   the MWS Model Hub: openai/v1/... and cohere/v2/rerank, with its error codes
    /anthropic/v1/...        Anthropic's messages, count_tokens and models
    /control/...             state, requests, reset, faults, settings, expire-tokens (see control.py)

What they say
    An answer depends on the seed and on the request alone: asked the same, they say the same, streamed or not.
    One token is four characters, so every count can be checked by hand.
    `echo: xyz` in the last user message    answers exactly `xyz` (everything after the colon and one space).
    `say 12 words` / `скажи 12 слов`        answers exactly so many words.
    otherwise                               some sentences in the language of the question.
    a JSON schema                           JSON that satisfies it.
    GigaChat: a system message that asks    an object, as far as no `echo:` or `say` order says otherwise
    for a JSON object in words              (this vendor has no mode for it).
    tools                                   when the last message is the user's and tools may be called, the
                                            tools whose names it mentions are called (in parallel where the
                                            form can), or else the first one. `echo:` and `say` orders are
                                            answered with text, unless a call is demanded.
    a tool result as the last message       text that quotes it.
    `forbidden topic` / `запретная тема`    GigaChat's `blacklist` finish, Yandex's content filter.
    `forbidden turn` / `опасный поворот`    Yandex: the filter takes back what was said already.
    `broken arguments`                      GigaChat's `error` finish.

How they break
    A model id that ends in `+fault` or a rule set by POST /control/faults; the list is in faults.py.
"""
