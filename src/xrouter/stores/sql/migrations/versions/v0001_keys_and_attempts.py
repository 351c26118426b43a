"""API keys, their version counter, attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("last4", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("api_keys_digest", "api_keys", ["digest"], unique=True)
    op.create_index("api_keys_version", "api_keys", ["version"])
    op.create_index("api_keys_created", "api_keys", ["created_at", "id"])
    counter = op.create_table(
        "key_version",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counter, [{"id": 1, "version": 0}])
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("client_request_id", sa.Text),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("deployment", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("upstream_model", sa.Text, nullable=False),
        sa.Column("dialect", sa.Text, nullable=False),
        sa.Column("streamed", sa.Boolean, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("first_content_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("upstream_status", sa.BigInteger),
        sa.Column("upstream_request_id", sa.Text),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("cost_micro", sa.BigInteger, nullable=False),
        sa.Column("unpriced", sa.Boolean, nullable=False),
        sa.Column("finish_reason", sa.Text),
        sa.Column("error", sa.Text),
    )
    op.create_index("attempts_started", "attempts", ["started_at", "id"])
    op.create_index("attempts_key", "attempts", ["key_id", "started_at", "id"])
    op.create_index("attempts_state", "attempts", ["state", "started_at", "id"])
    op.create_index("attempts_call", "attempts", ["call_id"])
    op.create_index("attempts_request", "attempts", ["request_id"])
    op.create_index("attempts_client_request", "attempts", ["client_request_id"])


def downgrade() -> None:
    """Drop them, with every key and attempt."""
    op.drop_table("attempts")
    op.drop_table("key_version")
    op.drop_table("api_keys")
