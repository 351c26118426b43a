"""`xrouter simulate`: the fake vendors in a process of their own."""

from typing import Annotated

import typer

from xrouter.simulators import server


def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8090,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 1,
    pace_ms: Annotated[float, typer.Option(help="Pause between two pieces of a stream.")] = 20.0,
) -> None:
    """Run fake GigaChat and T-Bank/OpenAI upstreams with faults on demand (no network, no keys)."""

    def announce(found: int) -> None:
        url = f"http://{host}:{found}"
        typer.echo(f"simulators on {url}")
        typer.echo(f"  GigaChat  base_url {url}/gigachat/v1  auth_url {url}/gigachat/api/v2/oauth", err=True)
        typer.echo(f"  OpenAI    base_url {url}/openai/v1", err=True)
        typer.echo(f"  Yandex    base_url {url}/yandex/v1  auth_url {url}/yandex/iam/v1/tokens", err=True)
        typer.echo(f"  control   {url}/control/state", err=True)

    server.run(host, port, seed, pace_ms, announce)
