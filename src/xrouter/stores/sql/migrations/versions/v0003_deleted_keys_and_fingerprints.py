"""Keys that were deleted with their user; the fingerprint of the pepper.

Only adds: for the release before this one a deleted key is a disabled one that nobody has the text of.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add them."""
    op.add_column("api_keys", sa.Column("deleted_at", sa.Double))
    op.create_table(
        "fingerprints",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
    )


def downgrade() -> None:
    """Drop them: a deleted key stays a disabled one."""
    op.drop_table("fingerprints")
    op.drop_column("api_keys", "deleted_at")
