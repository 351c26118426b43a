"""The database: one code for SQLite and PostgreSQL, in SQLAlchemy Core."""
