"""Logs: one line per outcome, readable in a terminal, JSON everywhere else."""

import logging
import sys
from typing import Any, Literal

import structlog

QUIET_LOGGERS = {
    # What each says at INFO is one line per message or connection.
    "celery.worker.strategy": logging.WARNING,
    "celery.app.trace": logging.WARNING,
    "urllib3": logging.WARNING,
    "amqp": logging.WARNING,
}


def configure(style: Literal["auto", "json", "text"], level: str) -> None:
    """Send every log line, ours and the libraries', to standard error in one format.

    Args:
        style: "auto" is "text" on a terminal and "json" elsewhere.
        level: the least severe level that is shown.
    """
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(shared, text=text))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, least in QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(max(least, logging.getLevelName(level)))


def _formatter(shared: list[Any], *, text: bool) -> logging.Formatter:
    ending: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=True)]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
    )
