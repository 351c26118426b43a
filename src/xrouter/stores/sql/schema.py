"""The tables. Types and indexes are such that SQLite and PostgreSQL both serve them well.

Times are seconds since the epoch, money is micro-roubles. A change here needs a revision in `migrations/`
and a new `HEAD`; a test compares the tables that both ways make.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, LargeBinary, MetaData, String, Table, Text, false

HEAD: Final = "0005"
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
    Column("updated_at", Double),  # None for rows of the first release: when they were made
    # the digest before the last rotation, which finds the key until `former_until`
    Column("former_digest", LargeBinary(32)),
    Column("former_until", Double),
    Column("organisation_id", Text),
    Column("team_id", Text),
    Column("user_id", Text),
    Column("plan_id", Text),
    # JSON arrays; None where nothing is said
    Column("limits", Text),
    Column("models", Text),
    Column("operations", Text),
    Column("networks", Text),
    # since when the key is gone for good: its digest is that of no text, and the row stays for the books
    Column("deleted_at", Double),
    Index("api_keys_digest", "digest", unique=True),
    Index("api_keys_version", "version"),
    Index("api_keys_created", "created_at", "id"),
    Index("api_keys_former", "former_digest", unique=True),
    Index("api_keys_organisation", "organisation_id", "created_at", "id"),
    Index("api_keys_team", "team_id", "created_at", "id"),
    Index("api_keys_user", "user_id", "created_at", "id"),
)

# Organisations, teams and users. A row's own id stands in the column of its kind, too: one condition finds all that is
# below somebody. The books do not refer to them, so a row that nobody stands below may go.
accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("organisation_id", Text),
    Column("team_id", Text),
    Column("user_id", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("plan_id", Text),
    Column("limits", Text),
    Column("models", Text),
    Column("operations", Text),
    Column("networks", Text),
    Column("version", BigInteger, nullable=False),
    Index("accounts_version", "version"),
    Index("accounts_kind", "kind", "created_at", "id"),
    Index("accounts_organisation", "organisation_id", "kind", "created_at", "id"),
    Index("accounts_team", "team_id", "kind", "created_at", "id"),
    Index("accounts_plan", "plan_id"),
)

# Plans that somebody made, and built-in ones that somebody changed.
plans = Table(
    "plans",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("limits", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Index("plans_version", "version"),
    Index("plans_name", "name", unique=True),
)

# What must be the same on every host that has this database, as an HMAC under it: `pepper`.
fingerprints = Table(
    "fingerprints",
    metadata,
    Column("name", Text, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
)

# What was answered to writes that came with an Idempotency-Key, for a day. `id` is an HMAC of caller and key, `answer`
# is encrypted under a key that the Idempotency-Key is part of; None while the write runs.
idempotent_writes = Table(
    "idempotent_writes",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("begun_at", Double, nullable=False),
    Column("turn", Text, nullable=False),  # names the request that holds the row
    Column("status", BigInteger),
    Column("answer", LargeBinary),
    Index("idempotent_writes_begun", "begun_at"),
)

# One row. Whoever changes keys, accounts or plans raises it in the same transaction, before it looks at anything else:
# versions become visible in their order, and of two changes the second one sees the first.
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
    Column("end_user", Text),
    Column("on_operator", Boolean, nullable=False, server_default=false()),
    Column("decision", LargeBinary),  # packed: core/decision.py
    Index("attempts_started", "started_at", "id"),
    Index("attempts_key", "key_id", "started_at", "id"),
    Index("attempts_state", "state", "started_at", "id"),
    Index("attempts_call", "call_id"),
    Index("attempts_request", "request_id"),
    Index("attempts_client_request", "client_request_id"),
)

# Every configuration that was served, without secrets: what a decision of that time was made by. A few kilobytes for
# each change of the file; a row may go when no attempt of its time is left.
configurations = Table(
    "configurations",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("picture", Text, nullable=False),  # JSON: configuration/picture.py
    Column("first_served_at", Double, nullable=False),
)

# Alembic's own table, named here so that a start can read the revision without importing Alembic.
alembic_version = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True, nullable=False)
)

FIRST_ROWS: Final = ((key_version, {"id": 1, "version": 0}),)
"""What stands in new tables, by the revision that makes them. All other tables are empty at first."""
