"""Introduces everybody: settings and configuration -> stores, providers -> gateway -> one ASGI application.

The only package that knows all others below it.
"""

from xrouter.app.application import App, open_app
from xrouter.app.checking import check

__all__ = ["App", "check", "open_app"]
