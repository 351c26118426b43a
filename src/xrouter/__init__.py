"""XRouter: one OpenAI-compatible API to many language models, with every call on the books."""

__version__ = "0.1.0"
