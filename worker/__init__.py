"""The process: Celery application, timetable, settings, wiring, and the `billing` command."""

from worker.celery import app

__all__ = ["app"]
