"""What `xrouter doctor` says about a PostgreSQL: empty, up to date, away, closed to us, read-only."""

from pathlib import Path

from tests.postgres_server import PostgresServer, execute

from xrouter.doctor import storage
from xrouter.doctor.finding import Finding, State
from xrouter.settings import SecretText, load_settings
from xrouter.stores.sql.database import open_database


async def _examine(url: str, directory: Path) -> dict[str, Finding]:
    settings = load_settings().model_copy(update={"database_url": SecretText(url), "data_dir": directory})
    return {finding.check: finding async for finding in storage.database(settings)}


async def test_empty_then_migrated_then_read_only(postgres_url: str, tmp_path: Path) -> None:
    found = await _examine(postgres_url, tmp_path)
    assert {check: finding.state for check, finding in found.items()} == {
        "reachable": State.GOOD, "migrations": State.SKIPPED, "writable": State.GOOD,
    }  # fmt: skip
    database = open_database(postgres_url)
    await database.migrate()
    await database.close()
    assert (await _examine(postgres_url, tmp_path))["migrations"].state is State.GOOD
    name = postgres_url.rpartition("/")[2]
    execute(postgres_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    refused = (await _examine(postgres_url, tmp_path))["writable"]
    assert refused.state is State.FAILED
    assert "primary" in refused.mend


async def test_away_and_closed_to_us(own_postgres: PostgresServer, tmp_path: Path) -> None:
    wrong = f"postgresql://xrouter:sesame@127.0.0.1:{own_postgres.port}/postgres"
    (found,) = (await _examine(wrong, tmp_path)).values()
    assert found.state is State.FAILED
    assert "password authentication failed" in found.words
    assert "sesame" not in found.words
    own_postgres.stop()
    (found,) = (await _examine(wrong, tmp_path)).values()
    assert found.state is State.FAILED
    assert found.mend
