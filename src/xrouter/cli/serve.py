"""`xrouter serve`: the gateway for real upstreams."""

from typing import Annotated

import typer

from xrouter.settings import Config, ConfigError, Settings, load_config, load_settings


def serve(
    worker_count: Annotated[
        int | None, typer.Option("--workers", help="Processes; above 1 under a supervisor.", min=1, max=64)
    ] = None,
) -> None:
    """Serve the providers of xrouter.yaml (XROUTER_CONFIG)."""
    settings = load_settings()
    if worker_count is not None:
        settings = settings.model_copy(update={"workers": worker_count})
    if settings.config is None:
        raise ConfigError(
            "no providers: set XROUTER_CONFIG to your xrouter.yaml (README, 'Real providers'), or try `xrouter demo`"
        )
    config = load_config(settings.config)
    raise typer.Exit(run(settings, config))


def run(settings: Settings, config: Config) -> int:
    """One process, or a supervisor with several; the exit code."""
    return 0
