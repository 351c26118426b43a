"""Attempts that the operator pays for: what lost a race for the first token, and shadow traffic.

Only adds: the release before this one goes on writing, and what it writes is the client's.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.add_column("attempts", sa.Column("on_operator", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Drop it: every attempt counts as its key's own again."""
    op.drop_column("attempts", "on_operator")
