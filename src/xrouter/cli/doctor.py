"""`xrouter doctor`: what keeps a provider, the database or Redis from working, and what to do."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from xrouter.doctor.examine import examine
from xrouter.doctor.finding import Finding, State
from xrouter.settings import load_settings

_SIGNS = {State.GOOD: "ok  ", State.WARNING: "WARN", State.FAILED: "FAIL", State.SKIPPED: "-   "}


def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="The file; XROUTER_CONFIG when left out.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check each provider (configuration, DNS, TCP, TLS, login, models, clock), the database, Redis and the data
    directory. Sends no prompt. Exit code 1 when a check fails."""
    settings = load_settings()
    if file is not None:
        settings = settings.model_copy(update={"config": file})

    async def everything() -> list[Finding]:
        found = []
        async for finding in examine(settings):
            found.append(finding)
            if not as_json:
                _print(finding)
        return found

    findings = asyncio.run(everything())
    ok = all(finding.state is not State.FAILED for finding in findings)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"ok": ok, "checks": findings})).decode())
    raise typer.Exit(0 if ok else 1)


def _print(finding: Finding) -> None:
    typer.echo(f"{_SIGNS[finding.state]} {finding.subject}  {finding.check}: {finding.words}")
    if finding.mend:
        typer.echo(f"       -> {finding.mend}")
