"""Every setting, in one validated place. Only this room reads the environment."""

import datetime as dt
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models import database
from tasks.config import Config
from webhooks.guard import Policy
from webhooks.keyring import InvalidMasterKeys, Keyring
from worker import local

CHECKOUT = Path(__file__).resolve().parent.parent
LOCAL_FOLDER = CHECKOUT / ".local"
"""Where embedded servers keep their data."""


class InvalidSettings(RuntimeError):
    """A variable of the environment has a value that can not be used."""


class Settings(BaseSettings):
    """What the environment decides. Every variable and its default stands here."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    broker_url: SecretStr | None = Field(None, validation_alias="BROKER_URL")
    result_backend: SecretStr | None = Field(None, validation_alias="BILLING_RESULT_BACKEND")

    master_keys: SecretStr | None = Field(None, validation_alias="BILLING_MASTER_KEYS")
    """`key_id:base64` of 32 bytes, several separated by commas; the first seals, all open."""

    allow_http: bool = Field(False, validation_alias="BILLING_WEBHOOK_ALLOW_HTTP")
    private_hosts: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), validation_alias="BILLING_WEBHOOK_PRIVATE_HOSTS"
    )
    """Host names, addresses or networks on a private network that endpoints may point to."""

    send_timeout_seconds: float = Field(
        15, ge=1, le=30, validation_alias="BILLING_WEBHOOK_TIMEOUT_SECONDS"
    )
    furthest_future_minutes: int = Field(
        60, ge=0, le=525_600, validation_alias="BILLING_USAGE_FURTHEST_FUTURE_MINUTES"
    )
    invoice_grace_hours: int = Field(
        24, ge=0, le=2_160, validation_alias="BILLING_INVOICE_GRACE_HOURS"
    )
    pool_size: int = Field(2, ge=1, le=100, validation_alias="BILLING_DATABASE_POOL_SIZE")
    log_format: str = Field("auto", pattern="^(auto|json|text)$", validation_alias="BILLING_LOG")
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", validation_alias="BILLING_LOG_LEVEL"
    )

    @field_validator("private_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    def database_options(self) -> database.Options:
        """Return how to connect to PostgreSQL.

        Raises:
            InvalidSettings: no database is configured and no embedded one is running.
        """
        return database.Options(url=_given_or_local(self.database_url, "DATABASE_URL"))

    def broker(self) -> str:
        """Return the broker's URL.

        Raises:
            InvalidSettings: no broker is configured and no embedded one is running.
        """
        return _given_or_local(self.broker_url, "BROKER_URL")

    def results(self) -> str | None:
        """Return where answers are kept for those who wait: the broker, if it is a Redis."""
        if self.result_backend is not None:
            return self.result_backend.get_secret_value()
        broker = self.broker()
        return broker if broker.startswith(("redis://", "rediss://")) else None

    def task_config(self) -> Config:
        """Return what the tasks obey."""
        return Config(
            furthest_future=dt.timedelta(minutes=self.furthest_future_minutes),
            invoice_grace=dt.timedelta(hours=self.invoice_grace_hours),
            address_policy=Policy(
                allow_http=self.allow_http, allowed_private_hosts=self.private_hosts
            ),
            keyring=self._keyring(),
            send_timeout=dt.timedelta(seconds=self.send_timeout_seconds),
        )

    def _keyring(self) -> Keyring | None:
        if self.master_keys is None:
            return None
        try:
            return Keyring.parse(self.master_keys.get_secret_value())
        except InvalidMasterKeys as error:
            raise InvalidSettings(f"BILLING_MASTER_KEYS: {error}") from None


def load() -> Settings:
    """Read the environment.

    Raises:
        InvalidSettings: naming each variable that is wrong and what would be right.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()]
        raise InvalidSettings("; ".join(faults)) from None


def _given_or_local(given: SecretStr | None, variable: str) -> str:
    if given is not None:
        return given.get_secret_value()
    servers = local.find(LOCAL_FOLDER / os.environ.get("BILLING_LOCAL", "up"))
    if servers is None:
        raise InvalidSettings(
            f"{variable} is not set and no embedded servers are running; set it, or start them "
            "with `billing up`"
        )
    return servers.database_url if variable == "DATABASE_URL" else servers.broker_url
