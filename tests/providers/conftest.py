"""The example of docs/adding-a-provider.md is a provider like any other here: the whole suite runs over it."""

from pathlib import Path

from xrouter import providers

providers.__path__.append(str(Path(__file__).parent / "example"))
