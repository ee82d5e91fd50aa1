"""Where PostgreSQL, the broker and the stream of usage are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from pydantic import Field, SecretStr, field_validator

from models import address
from tasks import tls as broker_tls
from worker import local, tls
from worker.settings.group import ROOT, Group, InvalidSettings, folder
from worker.settings.urls import address_of, checked, is_redis, scheme

OFF = "off"
"""Says that a part is not wanted."""


class Servers(Group):
    """Servers, ours or the embedded ones.

    What is needed and not set comes from the embedded servers, if they run: `billing up` in one
    terminal is found by `billing call` in another.
    """

    local_folder: Path = Field(ROOT / ".local" / "up", validation_alias="BILLING_LOCAL_FOLDER")
    """Where the embedded servers of `billing up` keep their data."""

    demo_folder: Path = Field(ROOT / ".local" / "demo", validation_alias="BILLING_DEMO_FOLDER")
    """Where `billing demo` keeps its servers' data and logs; each run begins by clearing it."""

    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    """PostgreSQL: postgresql://user:password@host:5432/name; the embedded one, if unset. Over TLS
    with ?sslmode=verify-full&sslrootcert=FILE behind it."""

    broker_url: SecretStr | None = Field(None, validation_alias="BROKER_URL")
    """What Celery sends messages over: redis://:password@host:6379/0, amqp://user:password@host//;
    the embedded Redis, if unset. Over TLS as rediss:// or amqps://, with ?ssl_ca_certs=FILE behind
    it for a CA of one's own."""

    result_backend: SecretStr | None = Field(None, validation_alias="BILLING_RESULT_BACKEND")
    """Where answers are kept for those who wait; the broker, if unset and that is a Redis."""

    usage_stream_url: SecretStr | None = Field(None, validation_alias="BILLING_USAGE_STREAM_URL")
    """The Redis onto whose stream producers put single events; the broker, if that is a Redis;
    "off" for none."""

    _usable_own_folders = field_validator("local_folder", "demo_folder")(folder)

    @property
    def uses_embedded_database(self) -> bool:
        """Whether all is kept in the database of a `billing up` that runs."""
        try:
            return self.database_url is None and local.find(self.local_folder) is not None
        except PermissionError:  # another user's
            return False

    def usable_database_url(self) -> str:
        """Return the URL of PostgreSQL, looked at.

        Raises:
            InvalidSettings: no database is configured and no embedded one is running, or the URL
                is not one of PostgreSQL.
        """
        url = self._given_or_local(self.database_url, "DATABASE_URL")
        try:
            address.driver_url(url)
            tls.check_database(url)
        except broker_tls.InvalidTls as error:
            raise InvalidSettings(f"DATABASE_URL {error}") from None
        except ValueError as error:
            raise InvalidSettings(str(error)) from None
        return url

    def broker(self) -> str:
        """Return the broker's URL.

        Raises:
            InvalidSettings: no broker is configured and no embedded one is running, or the URL is
                not one of a broker.
        """
        return self._broker().url

    def broker_ssl(self) -> Mapping[str, Any] | None:
        """Return what Celery's `broker_use_ssl` is to be; None for a connection without TLS.

        Raises:
            InvalidSettings: as for `broker`.
        """
        return self._broker().options

    def results(self) -> str | None:
        """Return where answers are kept for those who wait: the broker, if it is a Redis."""
        if self.result_backend is not None:
            given = self.result_backend.get_secret_value()
            scheme("BILLING_RESULT_BACKEND", given)
            return checked("BILLING_RESULT_BACKEND", given).url
        broker = self.broker()
        return broker if is_redis(broker) else None

    def stream(self) -> str | None:
        """Return the Redis whose stream of usage events is drained: the broker, if it is one.

        Raises:
            InvalidSettings: what is set is neither "off" nor the URL of a Redis.
        """
        if self.usage_stream_url is not None:
            given = self.usage_stream_url.get_secret_value()
            if given == OFF:
                return None
            if not is_redis(given):
                raise InvalidSettings(
                    f'BILLING_USAGE_STREAM_URL is not "{OFF}" and does not begin with redis:// or '
                    "rediss://"
                )
            scheme("BILLING_USAGE_STREAM_URL", given)
            return checked("BILLING_USAGE_STREAM_URL", given).url
        try:
            broker = self.broker()
        except InvalidSettings:
            return None  # who needs the broker says so; tasks can be called without one
        return broker if is_redis(broker) else None

    def own_servers(self) -> frozenset[str]:
        """Return host and port of every server we are told of."""
        asked = (
            self.usable_database_url,
            self.broker,
            self.results,
            self.stream,
        )
        found = set()
        for url in asked:
            try:
                found.add(address_of(url()))
            except InvalidSettings:
                continue  # who needs that one says so
        return frozenset(address for address in found if address is not None)

    def _broker(self) -> broker_tls.Checked:
        url = self._given_or_local(self.broker_url, "BROKER_URL")
        begins = scheme("BROKER_URL", url)
        if begins.partition("+")[0] not in TRANSPORT_ALIASES:
            raise InvalidSettings(
                f"BROKER_URL begins with {begins!r}, which is no broker of Celery's; write "
                "redis://:password@host:6379/0, rediss://… or amqp://user:password@host:5672//"
            )
        return checked("BROKER_URL", url)

    def _given_or_local(self, given: SecretStr | None, variable: str) -> str:
        if given is not None:
            return given.get_secret_value()
        servers = local.find(self.local_folder)
        if servers is None:
            raise InvalidSettings(
                f"{variable} is not set and no embedded servers run in {self.local_folder}; set "
                "it, or start them with `billing up`"
            )
        return servers.database_url if variable == "DATABASE_URL" else servers.broker_url
