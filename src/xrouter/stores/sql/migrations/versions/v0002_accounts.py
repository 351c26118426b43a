"""Organisations, teams, users and plans; what they and keys may do; end users; answers to repeated writes.

Only adds: the release before this one goes on working, with keys as it knows them.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KEY_COLUMNS: dict[str, Any] = {
    "updated_at": sa.Double,
    "former_digest": sa.LargeBinary(32),
    "former_until": sa.Double,
    "organisation_id": sa.Text,
    "team_id": sa.Text,
    "user_id": sa.Text,
    "plan_id": sa.Text,
    "limits": sa.Text,
    "models": sa.Text,
    "operations": sa.Text,
    "networks": sa.Text,
}
_KEY_INDEXES = {
    "api_keys_former": ["former_digest"],
    "api_keys_organisation": ["organisation_id", "created_at", "id"],
    "api_keys_team": ["team_id", "created_at", "id"],
    "api_keys_user": ["user_id", "created_at", "id"],
}


def upgrade() -> None:
    """Add them."""
    for name, kind in _KEY_COLUMNS.items():
        op.add_column("api_keys", sa.Column(name, kind))
    for name, columns in _KEY_INDEXES.items():
        op.create_index(name, "api_keys", columns, unique=name == "api_keys_former")
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("organisation_id", sa.Text),
        sa.Column("team_id", sa.Text),
        sa.Column("user_id", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("plan_id", sa.Text),
        sa.Column("limits", sa.Text),
        sa.Column("models", sa.Text),
        sa.Column("operations", sa.Text),
        sa.Column("networks", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("accounts_version", "accounts", ["version"])
    op.create_index("accounts_kind", "accounts", ["kind", "created_at", "id"])
    op.create_index("accounts_organisation", "accounts", ["organisation_id", "kind", "created_at", "id"])
    op.create_index("accounts_team", "accounts", ["team_id", "kind", "created_at", "id"])
    op.create_index("accounts_plan", "accounts", ["plan_id"])
    op.create_table(
        "plans",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("limits", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("plans_version", "plans", ["version"])
    op.create_index("plans_name", "plans", ["name"], unique=True)
    op.create_table(
        "idempotent_writes",
        sa.Column("id", sa.LargeBinary(32), primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("begun_at", sa.Double, nullable=False),
        sa.Column("turn", sa.Text, nullable=False),
        sa.Column("status", sa.BigInteger),
        sa.Column("answer", sa.LargeBinary),
    )
    op.create_index("idempotent_writes_begun", "idempotent_writes", ["begun_at"])
    op.add_column("attempts", sa.Column("end_user", sa.Text))


def downgrade() -> None:
    """Drop them: keys forget their limits and who stands above them."""
    op.drop_column("attempts", "end_user")
    for table in ("idempotent_writes", "plans", "accounts"):
        op.drop_table(table)
    for name in _KEY_INDEXES:
        op.drop_index(name, "api_keys")
    for name in _KEY_COLUMNS:
        op.drop_column("api_keys", name)
