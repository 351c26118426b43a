"""What a call's route was chosen from, and the configurations that were served. Only adds."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "configurations",
        sa.Column("revision", sa.Text, primary_key=True),
        sa.Column("picture", sa.Text, nullable=False),
        sa.Column("first_served_at", sa.Double, nullable=False),
    )
    op.add_column("attempts", sa.Column("decision", sa.LargeBinary))


def downgrade() -> None:
    """Drop them: nobody can be told any more why a call went where it went."""
    op.drop_column("attempts", "decision")
    op.drop_table("configurations")
