"""The process: Celery application, timetable, settings, wiring, and the `billing` command."""

from worker.importing import undisturbed

with undisturbed():
    # Imported for the signals that they answer.
    from worker import boot, lost, pulse, task_log
    from worker.celery import app

__all__ = ["app", "boot", "lost", "pulse", "task_log"]
