"""The command line: thin commands, each calling one package."""

from xrouter.cli.commands import main

__all__ = ["main"]
