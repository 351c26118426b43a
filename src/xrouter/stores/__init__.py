"""What outlives a call: keys and attempts in the database, the crash-safe journal, host-wide slots.

`journal.py` takes an attempt in microseconds, `flusher.py` moves it to the database, `sql/` holds the tables.
"""
