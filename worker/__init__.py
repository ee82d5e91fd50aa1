"""The process: Celery application, timetable, settings, wiring, and the `billing` command."""

from typing import TYPE_CHECKING, Any

from worker.importing import undisturbed

if TYPE_CHECKING:
    from worker.celery import app as app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    """Make the Celery application when it is first asked for: not each command needs it."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with undisturbed():
        # The others for the signals that they answer.
        from worker import boot, lost, pulse, task_log  # noqa: F401, PLC0415
        from worker.celery import app  # noqa: PLC0415
    return app
