"""Logs: one line per outcome, readable in a terminal, JSON everywhere else."""

import logging
import sys
from typing import Any, Literal

import structlog

QUIET_LOGGERS = {
    # What each says at INFO is one line per message, tick or connection.
    "celery.app.trace": logging.WARNING,
    "celery.beat": logging.WARNING,
    "celery.worker.strategy": logging.WARNING,
    "alembic": logging.WARNING,
    "amqp": logging.WARNING,
    # It warns of tables of a font that a PDF does not need.
    "fontTools": logging.ERROR,
    "fpdf": logging.WARNING,
    "urllib3": logging.WARNING,
}


QUOTING_LOGGER = "celery.worker.consumer.consumer"
"""Says of a message that it can not read what is wrong, and then quotes the whole of it."""

UNDECODABLE = "Can't decode message body"
"""How it begins a line that goes on with the very bytes, and the sender's text of the arguments."""


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
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
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
    logging.getLogger(QUOTING_LOGGER).addFilter(_keep_first_line)


def spare_terminals() -> None:
    """Show nothing below WARNING from now on where a person reads along."""
    if sys.stderr.isatty():
        logging.getLogger().setLevel(max(logging.getLogger().level, logging.WARNING))


def _keep_first_line(record: logging.LogRecord) -> bool:
    """Cut a payload off. The message itself is kept in rejected_messages where it can be."""
    if record.levelno >= logging.WARNING:
        first = record.getMessage().split("\n", 1)[0]
        if first.startswith(UNDECODABLE):
            first = UNDECODABLE
        record.msg, record.args = first, None
        record.exc_info = None
    return True


def _formatter(shared: list[Any], *, text: bool) -> logging.Formatter:
    # Plain tracebacks: the pretty ones print local variables, and those are payloads and secrets.
    ending: list[Any] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=True, exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
    )
