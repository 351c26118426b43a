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
    """Whoever iterates a stream closes it: `async with closing(events := f())`, then `async for ... in events`.

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
        named = {node for node in ast.walk(function) if isinstance(node, ast.NamedExpr)}
        closed = {one for node in ast.walk(function) if called_name(node) == "closing" for one in ast.walk(node)}
        plain |= {node.target.id for node in named - closed if called_name(node.value) in STREAMS}
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

    Constants of the module may stand in one: `PRAGMA` takes no parameters. A statement with a name is followed to
    whatever the module assigns to that name, in any function: one may make the text and another run it.
    """
    assigned = assigned_values(tree)
    glued: dict[int, ast.expr] = {}  # by identity: two calls may run one statement
    for node in ast.walk(tree):
        if called_name(node) in SQL and isinstance(node, ast.Call) and node.args and not is_own_method(node):
            statement = node.args[0]
            values = assigned.get(statement.id, []) if isinstance(statement, ast.Name) else [statement]
            glued.update((id(value), value) for value in values if is_glued(value))
    yield from glued.values()


def is_own_method(call: ast.Call) -> bool:
    """`self.text(...)`: no class of ours is a connection."""
    function = call.func
    return isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "self"


def is_glued(text: ast.expr) -> bool:
    """Is this a text with pieces in it that are not constants of the module?"""
    if isinstance(text, ast.JoinedStr):
        pieces = [part.value for part in text.values if isinstance(part, ast.FormattedValue)]
        return not all(isinstance(piece, ast.Name) and piece.id.isupper() for piece in pieces)
    return isinstance(text, ast.BinOp) or called_name(text) in {"format", "join", "replace"}


def assigned_values(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """Everything that a module assigns to a plain name, whatever the scope; `+=` is a sum."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AugAssign):
            sum_of = ast.BinOp(node.target, node.op, node.value)
            targets, value = [node.target], ast.copy_location(sum_of, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                found.setdefault(target.id, []).append(value)
    return found


EXCEPTIONS = {
    (built_sql, "stores/sql/booking.py", "f\"{before}{', '.join([row] * count)}{after}\""),
}
"""What a rule finds, and a decision lets stand: docs/decisions/0007-sql.md."""

RULES: tuple[Rule, ...] = (unclosed_streams, logged_content, built_sql)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Rule) -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 20
    found = {
        (rule, str(path.relative_to(SOURCE)), ast.unparse(spot)): spot.lineno
        for path in files
        for spot in rule(ast.parse(path.read_text(encoding="utf-8")))
    }
    allowed = {exception for exception in EXCEPTIONS if exception[0] is rule}
    assert [
        f"{where}:{line}: {what}" for (_, where, what), line in found.items() if (rule, where, what) not in allowed
    ] == []
    assert allowed <= found.keys(), "an exception that nothing needs any more"


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
        (built_sql, "def f():\n    query = f'SELECT {name}'\n    connection.execute(query)"),
        (built_sql, "def f():\n    query: str = 'SELECT ' + name\n    connection.exec_driver_sql(query, values)"),
        (built_sql, "def f():\n    query = 'SELECT 1'\n    query += name\n    connection.execute(text(query))"),
        (
            built_sql,
            "def make():\n    query = f'SELECT {name}'\n    return query, 1\n"
            "def run():\n    query, _ = make()\n    connection.exec_driver_sql(query)",
        ),
    ],
)
def test_the_rule_bites(rule: Rule, accident: str) -> None:
    assert list(rule(ast.parse(accident)))


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        (
            unclosed_streams,
            "async def f():\n    async with closing(events := provider.chat(request, attempt)):\n"
            "        async for event in events: yield event",
        ),
        (unclosed_streams, "async def f():\n    async for chunk in response.chunks(): pass"),
        (logged_content, "log.info('served', model=request.model, status=200)"),
        (logged_content, "results.error(request)"),
        (built_sql, "connection.exec_driver_sql(f'PRAGMA busy_timeout={_BUSY_MS}')"),
        (
            built_sql,
            "def f():\n    query = select(attempts)\n    query = query.limit(1)\n    connection.execute(query)",
        ),
        (built_sql, "def f():\n    words = f'{a} {b}'\n    log.info(words)"),
        (built_sql, "connection.execute(select(attempts).where(attempts.c.id == wanted))"),
    ],
)
def test_the_rule_lets_good_code_pass(rule: Rule, good: str) -> None:
    assert list(rule(ast.parse(good))) == []
