"""`billing metrics`."""

import datetime as dt
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from models import database
from tasks import config
from worker import logs, settings, standing, stopping
from worker import metrics as counted
from worker.celery import app as celery_app

Address = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 is any.", min=0, max=65_535)]


def metrics(
    *,
    address: Address = "127.0.0.1",
    port: Port = 9464,
    host_only: Annotated[
        bool, typer.Option("--host-only", help="Only what the processes of this host counted.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Print them and end.")] = False,
) -> None:
    """Serve how the system stands and what this host has counted, to Prometheus, until Ctrl-C.

    Processes count when BILLING_METRICS_FOLDER names a folder, the same for all of a host. How the
    system stands is the same on every host: let one of them tell it, the others with --host-only.
    """
    chosen = settings.load()
    # What is printed is read by a machine; what is logged goes beside it.
    logs.configure(chosen.log_format, chosen.log_level)
    folder = chosen.metrics_folder
    if host_only and folder is None:
        raise settings.InvalidSettings(
            "BILLING_METRICS_FOLDER is not set: nothing is counted; set it to a folder, for the "
            "workers and here"
        )
    more = () if host_only else (_standing(),)
    registry = counted.collected(folder, *more)
    if once:
        typer.echo(generate_latest(registry).decode(), nl=False)
        return
    _serve(registry, address, port)


def _standing() -> standing.Standing:
    chosen = settings.load()
    database.configure(chosen.database_options())
    config.use(chosen.task_config())
    return standing.Standing(celery_app, now=lambda: dt.datetime.now(dt.UTC))


def _serve(registry: CollectorRegistry, address: str, port: int) -> None:
    try:
        server, _ = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise settings.InvalidSettings(
            f"{address}:{port} can not be listened on: {error.strerror}; choose another --port"
        ) from None
    typer.echo(f"metrics on http://{address}:{server.server_port}/metrics")
    with stopping.until_told_to_stop() as over:
        over.wait()
    server.shutdown()
    server.server_close()
