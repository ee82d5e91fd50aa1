"""`billing metrics`."""

from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import start_http_server

from worker import metrics as counted
from worker import processes, settings

Address = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 is any.", min=0, max=65_535)]


def metrics(
    *,
    address: Address = "127.0.0.1",
    port: Port = 9464,
    once: Annotated[bool, typer.Option("--once", help="Print them and end.")] = False,
) -> None:
    """Serve what the processes on this host have counted, for Prometheus, until Ctrl-C.

    They count when BILLING_METRICS_FOLDER names a folder, the same for all of them.
    """
    folder = _folder()
    if once:
        typer.echo(counted.text(folder), nl=False)
        return
    _serve(folder, address, port)


def _folder() -> Path:
    folder = settings.load().metrics_folder
    if folder is None:
        raise settings.InvalidSettings(
            "BILLING_METRICS_FOLDER is not set: nothing is counted; set it to a folder, for the "
            "workers and here"
        )
    return folder


def _serve(folder: Path, address: str, port: int) -> None:
    registry = counted.collected(folder)
    try:
        server, _ = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise settings.InvalidSettings(
            f"{address}:{port} can not be listened on: {error.strerror}; choose another --port"
        ) from None
    typer.echo(f"metrics of {folder} on http://{address}:{server.server_port}/metrics")
    with processes.until_told_to_stop() as over:
        over.wait()
    server.shutdown()
    server.server_close()
