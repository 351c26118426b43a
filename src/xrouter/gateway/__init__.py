"""The journey of a call, as pure steps: no network, no SQL, no web framework. Read `pipeline.py` first."""
