"""House rules that no ready-made linter knows. Each is a small look at the syntax tree, says which accident it is
there to prevent, and is shown such an accident to prove that it bites."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "xrouter"
Rule = Callable[[ast.Module], Iterator[ast.expr]]

STREAMS = frozenset({"chat", "converse", "send", "events", "_events"})
"""Functions whose answer is an async generator that holds an upstream connection open."""


def called_name(node: ast.AST) -> str | None:
    """`b` of a call `a.b(...)` or `b(...)`."""
    if not isinstance(node, ast.Call):
        return None
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)


def unclosed_streams(tree: ast.Module) -> Iterator[ast.expr]:
    """Whoever iterates a stream closes it: `async with aclosing(f()) as events`, then `async for ... in events`.

    Without it a generator that nobody finishes is closed by the garbage collector, some time later: the client
    has gone, the vendor still generates and bills.
    """
    for function in ast.walk(tree):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        plain = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and called_name(node.value) in STREAMS
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.AsyncFor | ast.comprehension) and (
                called_name(node.iter) in STREAMS or (isinstance(node.iter, ast.Name) and node.iter.id in plain)
            ):
                yield node.iter


LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
CONTENT = frozenset(
    {"request", "messages", "message_list", "body", "content", "prompt", "answer", "event", "headers", "credential"}
)


def logged_content(tree: ast.Module) -> Iterator[ast.expr]:
    """A log call never takes a request, its messages, a body or headers: one such line put prompts and keys of
    strangers into log stores, where no retention rule and no masking reaches them."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS):
            continue
        logger = node.func.value
        if "log" not in (logger.attr if isinstance(logger, ast.Attribute) else getattr(logger, "id", "")).lower():
            continue
        for value in [*node.args, *(keyword.value for keyword in node.keywords)]:
            named = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", called_name(value))
            if named in CONTENT:
                yield value


SQL = frozenset({"text", "execute", "executemany", "exec_driver_sql", "executescript"})


def built_sql(tree: ast.Module) -> Iterator[ast.expr]:
    """SQL is never put together from pieces of text: an f-string in `text()` is how injections begin.

    Constants of the module may stand in one: `PRAGMA` takes no parameters.
    """
    for node in ast.walk(tree):
        if called_name(node) not in SQL or not isinstance(node, ast.Call) or not node.args:
            continue
        statement = node.args[0]
        if isinstance(statement, ast.JoinedStr):
            pieces = [part.value for part in statement.values if isinstance(part, ast.FormattedValue)]
            built = not all(isinstance(piece, ast.Name) and piece.id.isupper() for piece in pieces)
        else:
            built = isinstance(statement, ast.BinOp) or called_name(statement) in {"format", "join", "replace"}
        if built:
            yield statement


RULES: tuple[Rule, ...] = (unclosed_streams, logged_content, built_sql)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Rule) -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 20
    found = [
        f"{path.relative_to(SOURCE)}:{spot.lineno}: {ast.unparse(spot)}"
        for path in files
        for spot in rule(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("rule", "accident"),
    [
        (unclosed_streams, "async def f():\n    async for event in provider.chat(request, attempt): yield event"),
        (unclosed_streams, "async def f():\n    stream = converse(call, gateway)\n    async for event in stream: pass"),
        (unclosed_streams, "async def f():\n    return [event async for event in dispatch.send(call)]"),
        (logged_content, "log.info('got', request=request)"),
        (logged_content, "self._log.warning('refused: %s', call.request)"),
        (logged_content, "logger.error('bad', body=request.messages())"),
        (built_sql, "connection.execute(text(f'DELETE FROM {table}'))"),
        (built_sql, "connection.exec_driver_sql('PRAGMA ' + name)"),
        (built_sql, "connection.execute('SELECT %s' % name)"),
        (built_sql, "text('SELECT {}'.format(name))"),
    ],
)
def test_the_rule_bites(rule: Rule, accident: str) -> None:
    assert list(rule(ast.parse(accident)))


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        (
            unclosed_streams,
            "async def f():\n    async with aclosing(provider.chat(request, attempt)) as events:\n"
            "        async for event in events: yield event",
        ),
        (unclosed_streams, "async def f():\n    async for chunk in response.chunks(): pass"),
        (logged_content, "log.info('served', model=request.model, status=200)"),
        (logged_content, "results.error(request)"),
        (built_sql, "connection.exec_driver_sql(f'PRAGMA busy_timeout={_BUSY_MS}')"),
        (built_sql, "connection.execute(select(attempts).where(attempts.c.id == wanted))"),
    ],
)
def test_the_rule_lets_good_code_pass(rule: Rule, good: str) -> None:
    assert list(rule(ast.parse(good))) == []
