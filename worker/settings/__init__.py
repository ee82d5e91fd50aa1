"""Every setting, a module for each group, and all of them validated together.

Only this room reads the environment.
"""

import datetime as dt
import os
from typing import Final

from pydantic import SecretStr, ValidationError

from models import database
from tasks.config import Config
from tasks.message_faults import in_our_words
from worker import secret_files
from worker.settings.archives import Archives
from worker.settings.billing import Billing
from worker.settings.endpoints import FLOWER, LOOPBACK_HOSTS, Endpoints
from worker.settings.group import ROOT, InvalidSettings
from worker.settings.invoices import Invoices
from worker.settings.keeping import Keeping
from worker.settings.keys import MASTER_KEYS_FILE, TRIAL_PEPPERS_FILE, Keys
from worker.settings.processes import FLOWER_BASIC_AUTH_FILE, SOFT_SHUTDOWN_SECONDS, Processes
from worker.settings.telemetry import Telemetry
from worker.settings.urls import is_loopback, is_redis

__all__ = [
    "FLOWER",
    "FLOWER_BASIC_AUTH_FILE",
    "LOOPBACK_HOSTS",
    "MASTER_KEYS_FILE",
    "ROOT",
    "SECRETS",
    "SOFT_SHUTDOWN_SECONDS",
    "TRIAL_PEPPERS_FILE",
    "InvalidSettings",
    "Settings",
    "is_loopback",
    "is_redis",
    "load",
]


class Settings(Telemetry, Processes, Keeping, Invoices, Archives, Billing, Endpoints, Keys):
    """What the environment decides: every group, read and looked at together.

    The fields of the last group come first: that is the order of docs/reference.md.
    """

    def require_usable(self) -> None:
        """Look at everything that is set, as those do who use it; connects to nothing.

        Raises:
            InvalidSettings: naming the variable that can not be used.
        """
        self.task_config()
        self.signing_keys()
        for given, read in (
            (self.database_url, self.database_options),
            (self.broker_url, self.broker),
            (self.result_backend, self.results),
        ):
            if given is not None:
                read()

    def database_options(self) -> database.Options:
        """Return how to connect to PostgreSQL.

        Raises:
            InvalidSettings: as for `usable_database_url`.
        """
        return database.Options(url=self.usable_database_url(), pool_size=self.pool_size)

    def task_config(self) -> Config:
        """Return what the tasks obey.

        Raises:
            InvalidSettings: the master keys, the peppers, the private hosts, the stream, the
                provider or the folder for archives can not be used.
        """
        policy = self.address_policy(self.own_servers(), in_development=self.uses_embedded_database)
        return Config(
            furthest_future=dt.timedelta(minutes=self.furthest_future_minutes),
            invoice_grace=dt.timedelta(hours=self.invoice_grace_hours),
            allocate_ahead=dt.timedelta(minutes=self.allocate_ahead_minutes),
            address_policy=policy,
            keyring=self.keyring(),
            send_timeout=dt.timedelta(seconds=self.send_timeout_seconds),
            stream_url=self.stream(),
            paper_font=self.paper_font,
            provider=self.told_provider(policy),
            trial_peppers=self.peppers(),
            retention=self.retention(),
            webhook_retention=self.webhook_retention(),
        )


def load() -> Settings:
    """Read the environment, and the files that hold secrets.

    Raises:
        InvalidSettings: naming each variable that is wrong and what would be right.
    """
    from_files, faults = secret_files.read(SECRETS, os.environ)
    try:
        # By the variable's own name: what pydantic then says of it names the variable too.
        chosen = Settings(**from_files)  # type: ignore[arg-type]
    except ValidationError as error:
        faults += [f"{fault['loc'][0]}: {in_our_words(fault['msg'])}" for fault in error.errors()]
    if faults:
        raise InvalidSettings("; ".join(faults))
    return chosen


SECRETS: Final = tuple(
    str(field.validation_alias)
    for field in Settings.model_fields.values()
    if field.annotation == SecretStr | None
)
"""Variables whose value is for nobody's eyes; each may be read from a file (VARIABLE_FILE)."""
