"""`xrouter simulate`: the fake vendors in a process of their own."""

from importlib import import_module
from typing import Annotated

import typer


def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8090,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 1,
    pace_ms: Annotated[float, typer.Option(help="Pause between two pieces of a stream.")] = 20.0,
) -> None:
    """Run fake GigaChat, Yandex, MTS, Anthropic and T-Bank/OpenAI upstreams with faults on demand (no network, no
    keys)."""

    def announce(found: int) -> None:
        url = f"http://{host}:{found}"
        typer.echo(f"simulators on {url}")
        for line in places(url):
            typer.echo(f"  {line}", err=True)

    # Here, because every command reads this file: aiohttp would cost each of them 0.15 s and 9 MB.
    import_module("xrouter.simulators.server").run(host, port, seed, pace_ms, announce)


def places(url: str) -> list[str]:
    """What an operator's file has to say of each simulated vendor, and where the simulators are asked themselves."""
    return [
        f"GigaChat   base_url {url}/gigachat/v1  auth_url {url}/gigachat/api/v2/oauth",
        f"OpenAI     base_url {url}/openai/v1",
        f"Yandex     base_url {url}/yandex/v1  auth_url {url}/yandex/iam/v1/tokens",
        f"MTS        base_url {url}/mts/projects/demo/openai/v1",
        f"Anthropic  base_url {url}/anthropic",
        f"control    {url}/control/state",
    ]
