"""The tables. Types and indexes are such that SQLite and PostgreSQL both serve them well.

Times are seconds since the epoch, money is micro-roubles. A change here needs a revision in `migrations/`
and a new `HEAD`; a test compares the tables that both ways make.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, LargeBinary, MetaData, String, Table, Text

HEAD: Final = "0001"
"""The revision that this code works with."""

metadata = MetaData()

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    # HMAC-SHA256 of the whole key under the pepper: the only trace of the key's text
    Column("digest", LargeBinary(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # words in order, separated by spaces
    Column("last4", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Double),
    Column("disabled", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),  # taken from key_version by the change that wrote the row
    Index("api_keys_digest", "digest", unique=True),
    Index("api_keys_version", "version"),
    Index("api_keys_created", "created_at", "id"),
)

# One row. Whoever changes keys raises it in the same transaction, so versions become visible in their order.
key_version = Table(
    "key_version",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    # the columns are the fields of core.records.AttemptRecord, in its order
    Column("id", Text, primary_key=True),
    Column("call_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("client_request_id", Text),
    Column("key_id", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("upstream_model", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("first_content_at", Double),
    Column("ended_at", Double),
    Column("upstream_status", BigInteger),
    Column("upstream_request_id", Text),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("cost_micro", BigInteger, nullable=False),
    Column("unpriced", Boolean, nullable=False),
    Column("finish_reason", Text),
    Column("error", Text),
    Index("attempts_started", "started_at", "id"),
    Index("attempts_key", "key_id", "started_at", "id"),
    Index("attempts_state", "state", "started_at", "id"),
    Index("attempts_call", "call_id"),
    Index("attempts_request", "request_id"),
    Index("attempts_client_request", "client_request_id"),
)

# Alembic's own table, named here so that a start can read the revision without importing Alembic.
alembic_version = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True, nullable=False)
)

FIRST_ROWS: Final = ((key_version, {"id": 1, "version": 0}),)
"""What stands in new tables, by the revision that makes them. All other tables are empty at first."""
