"""What Flower's process runs: Flower, with our log lines and nobody's secrets."""

import flower.events
from celery.bin.celery import main as celery

from worker import flower_state, logs, settings


def main() -> None:
    """Become `celery … flower …`, with the words of the command line."""
    chosen = settings.load()
    logs.configure(chosen.log_format, chosen.log_level)
    flower.events.EventsState = flower_state.State
    celery()


if __name__ == "__main__":
    main()
