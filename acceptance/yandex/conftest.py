"""A gRPC server in front of the simulated REST API, so that the SDK's native part, which speaks gRPC, can drive it.

Every message passes through `google.protobuf.json_format` in both directions and strictly: a field that the vendor's
messages do not have, or a value that they cannot hold, fails the call.
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from yandex.cloud.ai.foundation_models.v1.embedding import embedding_service_pb2 as embedding
from yandex.cloud.ai.foundation_models.v1.embedding import embedding_service_pb2_grpc as embedding_grpc
from yandex.cloud.ai.foundation_models.v1.image_generation import image_generation_service_pb2 as images  # noqa: F401
from yandex.cloud.ai.foundation_models.v1.image_generation import image_generation_service_pb2_grpc as images_grpc
from yandex.cloud.ai.foundation_models.v1.text_generation import text_generation_service_pb2 as generation
from yandex.cloud.ai.foundation_models.v1.text_generation import text_generation_service_pb2_grpc as generation_grpc
from yandex.cloud.iam.v1 import iam_token_service_pb2 as iam
from yandex.cloud.iam.v1 import iam_token_service_pb2_grpc as iam_grpc
from yandex.cloud.operation import operation_pb2 as operation
from yandex.cloud.operation import operation_service_pb2_grpc as operation_grpc

BASE = f"{os.environ['XROUTER_ACCEPTANCE_SIMULATORS']}/yandex"
NATIVE = f"{BASE}/foundationModels/v1"
CODES = {code.value[0]: code for code in grpc.StatusCode}


def ask(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> Iterator[bytes]:
    """The lines of an answer. Raises `urllib.error.HTTPError`."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {}, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        yield from response


def forward(url: str, kind: type[Message], request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
    """One call as REST, its answers as messages of `kind`."""
    metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
    headers = {name: metadata[name] for name in ("authorization", "x-client-request-id") if name in metadata}
    fields = dict(json_format.MessageToDict(request))
    identified = "{id}" in url
    url = url.format(id=fields.get("operationId", ""))
    try:
        for line in ask("GET" if identified else "POST", url, None if identified else fields, headers):
            answer = json.loads(line)
            yield json_format.ParseDict(answer.get("result", answer), kind())
    except urllib.error.HTTPError as error:
        said = json.loads(error.read())
        found = said.get("error", said)
        context.abort(CODES[found.get("grpcCode", found.get("code"))], found["message"])


def unary(url: str, kind: type[Message]) -> Callable[..., Message]:
    def call(_self: object, request: Message, context: grpc.ServicerContext) -> Message:
        return next(forward(url, kind, request, context))

    return call


def streaming(url: str, kind: type[Message]) -> Callable[..., Iterator[Message]]:
    def call(_self: object, request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        return forward(url, kind, request, context)

    return call


class TextGeneration(generation_grpc.TextGenerationServiceServicer):
    Completion = streaming(f"{NATIVE}/completion", generation.CompletionResponse)


class TextGenerationAsync(generation_grpc.TextGenerationAsyncServiceServicer):
    Completion = unary(f"{NATIVE}/completionAsync", operation.Operation)


class Tokenizer(generation_grpc.TokenizerServiceServicer):
    Tokenize = unary(f"{NATIVE}/tokenize", generation.TokenizeResponse)
    TokenizeCompletion = unary(f"{NATIVE}/tokenizeCompletion", generation.TokenizeResponse)


class Embeddings(embedding_grpc.EmbeddingsServiceServicer):
    TextEmbedding = unary(f"{NATIVE}/textEmbedding", embedding.TextEmbeddingResponse)


class Images(images_grpc.ImageGenerationAsyncServiceServicer):
    Generate = unary(f"{NATIVE}/imageGenerationAsync", operation.Operation)


class Operations(operation_grpc.OperationServiceServicer):
    Get = unary(f"{BASE}/operations/{{id}}", operation.Operation)


class Tokens(iam_grpc.IamTokenServiceServicer):
    Create = unary(f"{BASE}/iam/v1/tokens", iam.CreateIamTokenResponse)


@pytest.fixture(scope="session")
def bridge() -> Iterator[str]:
    """host:port of the gRPC server."""
    server = grpc.server(ThreadPoolExecutor(16))
    generation_grpc.add_TextGenerationServiceServicer_to_server(TextGeneration(), server)
    generation_grpc.add_TextGenerationAsyncServiceServicer_to_server(TextGenerationAsync(), server)
    generation_grpc.add_TokenizerServiceServicer_to_server(Tokenizer(), server)
    embedding_grpc.add_EmbeddingsServiceServicer_to_server(Embeddings(), server)
    images_grpc.add_ImageGenerationAsyncServiceServicer_to_server(Images(), server)
    operation_grpc.add_OperationServiceServicer_to_server(Operations(), server)
    iam_grpc.add_IamTokenServiceServicer_to_server(Tokens(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
