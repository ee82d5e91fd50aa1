"""Every setting, in one validated place. Only this room reads the environment."""

import datetime as dt
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from kombu.transport import TRANSPORT_ALIASES
from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models import database
from models.rules.trial import InvalidPeppers, Peppers
from tasks import tls as broker_tls
from tasks.config import Config, Provider, Retention, WebhookRetention
from tasks.signing import InvalidMessageKeys, MessageKeys
from webhooks import guard, stripe_invoices
from webhooks.guard import Policy
from webhooks.keyring import InvalidMasterKeys, Keyring
from worker import local, secret_files, tls

ROOT = Path(__file__).resolve().parent.parent
"""The folder this program's packages are in."""

SOFT_SHUTDOWN_SECONDS = 20
"""What a worker gets to finish its tasks after SIGTERM, unless the environment says otherwise."""

FLOWER = frozenset({"flower:5555", "127.0.0.1:5555"})
"""Where Flower is, in docker-compose.yml and beside `billing up`: its API ends workers."""

DEFAULT_PORTS = {
    "postgresql": 5432,
    "postgres": 5432,
    "redis": 6379,
    "rediss": 6379,
    "amqp": 5672,
    "amqps": 5671,
}

OFF = "off"
"""Says that a part is not wanted."""

SECRET_KEY = re.compile(r"[!-~]{8,255}")
"""Of a provider. Which letters it has is the provider's own business."""

PUBLISHABLE_KEY = "pk_"
"""How Stripe's keys begin that open nothing."""

MASTER_KEYS_FILE = "master_keys"
TRIAL_PEPPERS_FILE = "trial_peppers"
FLOWER_BASIC_AUTH_FILE = "flower_basic_auth"
"""In the folder of the embedded servers: development keys, made once, readable by us alone."""


class InvalidSettings(RuntimeError):
    """A variable of the environment has a value that can not be used."""


class Settings(BaseSettings):
    """What the environment decides. Every variable and its default stands here.

    What is needed and not set comes from the embedded servers, if they run: `billing up` in one
    terminal is found by `billing call` in another.
    """

    # An empty variable is one that is not set: compose files and shells often pass those.
    model_config = SettingsConfigDict(
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        use_attribute_docstrings=True,  # docs/settings.md is written from them
    )

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

    master_keys: SecretStr | None = Field(None, validation_alias="BILLING_MASTER_KEYS")
    """`key_id:base64` of 32 bytes, several separated by commas; the first seals, all open."""

    trial_peppers: SecretStr | None = Field(None, validation_alias="BILLING_TRIAL_PEPPERS")
    """`pepper_id:base64` of 32 bytes, several separated by commas: what identities that had a trial
    are hashed with. The first is used, all are known: one that is left out is forgotten, and with
    it who had a trial. A new one goes behind first, and to the front when all processes have it."""

    message_keys: SecretStr | None = Field(None, validation_alias="BILLING_MESSAGE_KEYS")
    """`key_id:base64` of 32 bytes, several separated by commas: what task messages are signed with.
    The first signs, all verify; without any, messages are neither signed nor checked."""

    message_signatures: Literal["required", "optional"] = Field(
        "required", validation_alias="BILLING_MESSAGE_SIGNATURES"
    )
    """Whether a worker that has keys refuses messages without a signature. "optional" while some
    producers have none yet; a wrong signature is refused either way."""

    allow_http: bool = Field(False, validation_alias="BILLING_WEBHOOK_ALLOW_HTTP")
    """Whether endpoints may be http and not https: for development."""

    private_hosts: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), validation_alias="BILLING_WEBHOOK_PRIVATE_HOSTS"
    )
    """Host names, addresses or networks on a private network that endpoints may point to."""

    send_timeout_seconds: float = Field(
        15, ge=1, le=30, validation_alias="BILLING_WEBHOOK_TIMEOUT_SECONDS"
    )
    """Of one webhook attempt, from the lookup of the name to the head of the answer."""

    furthest_future_minutes: int = Field(
        60, ge=0, le=525_600, validation_alias="BILLING_USAGE_FURTHEST_FUTURE_MINUTES"
    )
    """How far ahead of our clock a usage event may be."""

    invoice_grace_hours: int = Field(
        24, ge=0, le=2_160, validation_alias="BILLING_INVOICE_GRACE_HOURS"
    )
    """How long after its period's end an invoice stays a draft, for usage that comes late."""

    allocate_ahead_minutes: int = Field(
        60, ge=0, le=10_080, validation_alias="BILLING_ALLOCATE_AHEAD_MINUTES"
    )
    """How long before a period begins its plan's credit is granted, to be spent from then on: so
    that nobody waits at a month's first midnight for the renewal of a hundred thousand others."""

    archive_after_days: int | None = Field(
        None, ge=35, le=36_500, validation_alias="BILLING_USAGE_ARCHIVE_AFTER_DAYS"
    )
    """Usage of months that ended so long ago, and are invoiced for good, is archived and purged;
    never, if unset. No quota's window and nothing that is counted again at night is so old."""

    archive_folder: Path | None = Field(None, validation_alias="BILLING_USAGE_ARCHIVE_FOLDER")
    """Where its files are written: a folder that is there, the same for every worker."""

    keys_remembered_days: int = Field(
        400, ge=1, le=36_500, validation_alias="BILLING_USAGE_KEYS_REMEMBERED_DAYS"
    )
    """How long after its purge an event that is sent again is known to be a duplicate."""

    archive_uninvoiced: bool = Field(False, validation_alias="BILLING_USAGE_ARCHIVE_UNINVOICED")
    """Also usage that nobody was ever charged for."""

    paper_font: FilePath | None = Field(None, validation_alias="BILLING_PAPER_FONT")
    """A TrueType font with letters that PDFs need and ours lack, such as Chinese ones."""

    provider: Literal["stripe"] | None = Field(None, validation_alias="BILLING_PROVIDER")
    """Who is told of each invoice once it has its number; nobody, if unset."""

    provider_key: SecretStr | None = Field(None, validation_alias="BILLING_PROVIDER_KEY")
    """Opens the account there: a key that may write customers, invoices and credit notes."""

    provider_url: str = Field(stripe_invoices.URL, validation_alias="BILLING_PROVIDER_URL")
    """Where its API is, such as a mock's."""

    provider_collects: bool = Field(False, validation_alias="BILLING_PROVIDER_COLLECTS")
    """Whether the provider may charge customers for what is final there."""

    provider_timeout_seconds: float = Field(
        15, ge=1, le=30, validation_alias="BILLING_PROVIDER_TIMEOUT_SECONDS"
    )
    """Deadline of one request there."""

    attempts_days: int = Field(30, ge=7, le=3_650, validation_alias="BILLING_WEBHOOK_ATTEMPTS_DAYS")
    """How long each HTTP try is kept."""

    events_days: int = Field(90, ge=7, le=3_650, validation_alias="BILLING_WEBHOOK_EVENTS_DAYS")
    """How long an event is kept with its body, unless it is still owed to somebody."""

    dead_days: int = Field(90, ge=30, le=3_650, validation_alias="BILLING_WEBHOOK_DEAD_DAYS")
    """How long a delivery that spent its attempts waits for an operator."""

    pool_size: int = Field(2, ge=1, le=100, validation_alias="BILLING_DATABASE_POOL_SIZE")
    """Connections to PostgreSQL that each process keeps at most."""

    soft_shutdown_seconds: float = Field(
        SOFT_SHUTDOWN_SECONDS, ge=0, le=120, validation_alias="BILLING_SOFT_SHUTDOWN_SECONDS"
    )
    """Longer than most tasks, shorter than what the service manager waits before it kills."""

    visibility_timeout_seconds: int = Field(
        300, ge=5, le=86_400, validation_alias="BILLING_VISIBILITY_TIMEOUT_SECONDS"
    )
    """After this Redis gives a message that nobody acknowledged to another worker. Below 280 a task
    that still runs may be begun a second time: harmless, and wasted work."""

    flower_basic_auth: SecretStr | None = Field(None, validation_alias="FLOWER_BASIC_AUTH")
    """user:password of Flower's pages; several separated by commas. Flower reads it itself."""

    alive_file: Path | None = Field(None, validation_alias="BILLING_ALIVE_FILE")
    """Touched by worker and beat when they are ready and every few seconds from then on."""

    metrics_folder: Path | None = Field(None, validation_alias="BILLING_METRICS_FOLDER")
    """Where processes count for `billing metrics`, one folder a host; nothing is counted, if
    unset."""

    otel_endpoint: str | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where spans are sent, by OTLP over HTTP, with /v1/traces added; no span is made, if neither
    this nor the next is set."""

    otel_traces_endpoint: str | None = Field(
        None, validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    )
    """The same for spans alone, as it is."""

    otel_traces_exporter: Literal["otlp", "none"] = Field(
        "otlp", validation_alias="OTEL_TRACES_EXPORTER"
    )
    """"none" makes no span wherever they would be sent."""

    otel_disabled: bool = Field(False, validation_alias="OTEL_SDK_DISABLED")
    """The same, for all that OpenTelemetry does."""

    otel_service_name: str = Field("billing", max_length=255, validation_alias="OTEL_SERVICE_NAME")
    """What spans say they are of."""

    log_format: Literal["auto", "json", "text"] = Field("auto", validation_alias="BILLING_LOG")
    """How log lines look; auto is text in a terminal."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="BILLING_LOG_LEVEL"
    )
    """Below which nothing is logged."""

    tell_ledger: bool = Field(False, validation_alias="BILLING_TELL_LEDGER")
    """Whether each ledger entry is an event, billing.transaction_created."""

    log_ledger: bool = Field(True, validation_alias="BILLING_LOG_LEDGER")
    """Whether each ledger entry is a line, at INFO."""

    @field_validator("private_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator(
        "local_folder", "demo_folder", "archive_folder", "metrics_folder", mode="after"
    )
    @classmethod
    def _folder(cls, value: Path | None) -> Path | None:
        if value is not None and value.exists() and not value.is_dir():
            raise ValueError(f"must be a folder; {value} is something else")
        return value

    @field_validator("flower_basic_auth", mode="after")
    @classmethod
    def _users(cls, value: SecretStr | None) -> SecretStr | None:
        users = [] if value is None else value.get_secret_value().split(",")
        if not all(name and password for name, _, password in (u.partition(":") for u in users)):
            raise ValueError("must be user:password; several are separated by commas")
        return value

    @field_validator("otel_endpoint", "otel_traces_endpoint", mode="after")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be a URL, such as http://collector:4318")
        return value

    @field_validator("alive_file", mode="after")
    @classmethod
    def _file(cls, value: Path | None) -> Path | None:
        if value is not None and (value.is_dir() or not value.parent.is_dir()):
            raise ValueError(f"must be a file in a folder that is there; {value} is not")
        return value

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
            InvalidSettings: no database is configured and no embedded one is running, or the URL
                is not one of PostgreSQL.
        """
        url = self._given_or_local(self.database_url, "DATABASE_URL")
        try:
            database.driver_url(url)
            tls.check_database(url)
        except broker_tls.InvalidTls as error:
            raise InvalidSettings(f"DATABASE_URL {error}") from None
        except ValueError as error:
            raise InvalidSettings(str(error)) from None
        return database.Options(url=url, pool_size=self.pool_size)

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

    def _broker(self) -> broker_tls.Checked:
        url = self._given_or_local(self.broker_url, "BROKER_URL")
        scheme = _scheme("BROKER_URL", url)
        if scheme.partition("+")[0] not in TRANSPORT_ALIASES:
            raise InvalidSettings(
                f"BROKER_URL begins with {scheme!r}, which is no broker of Celery's; write "
                "redis://:password@host:6379/0, rediss://… or amqp://user:password@host:5672//"
            )
        return _checked("BROKER_URL", url)

    def results(self) -> str | None:
        """Return where answers are kept for those who wait: the broker, if it is a Redis."""
        if self.result_backend is not None:
            given = self.result_backend.get_secret_value()
            _scheme("BILLING_RESULT_BACKEND", given)
            return _checked("BILLING_RESULT_BACKEND", given).url
        broker = self.broker()
        return broker if is_redis(broker) else None

    def traces(self) -> bool:
        """Tell whether spans are made: where there is somewhere to send them."""
        is_wanted = not self.otel_disabled and self.otel_traces_exporter != "none"
        return is_wanted and bool(self.otel_traces_endpoint or self.otel_endpoint)

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
            _scheme("BILLING_USAGE_STREAM_URL", given)
            return _checked("BILLING_USAGE_STREAM_URL", given).url
        try:
            broker = self.broker()
        except InvalidSettings:
            return None  # who needs the broker says so; tasks can be called without one
        return broker if is_redis(broker) else None

    def task_config(self) -> Config:
        """Return what the tasks obey.

        Raises:
            InvalidSettings: the master keys, the peppers, the private hosts, the stream, the
                provider or the folder for archives can not be used.
        """
        policy = self._address_policy()
        return Config(
            furthest_future=dt.timedelta(minutes=self.furthest_future_minutes),
            invoice_grace=dt.timedelta(hours=self.invoice_grace_hours),
            allocate_ahead=dt.timedelta(minutes=self.allocate_ahead_minutes),
            address_policy=policy,
            keyring=self.keyring(),
            send_timeout=dt.timedelta(seconds=self.send_timeout_seconds),
            stream_url=self.stream(),
            paper_font=self.paper_font,
            provider=self._provider(policy),
            trial_peppers=self.peppers(),
            retention=self.retention(),
            webhook_retention=WebhookRetention(
                attempts=dt.timedelta(days=self.attempts_days),
                events=dt.timedelta(days=self.events_days),
                dead=dt.timedelta(days=self.dead_days),
            ),
        )

    def retention(self) -> Retention | None:
        """Return how usage leaves the database; None for never.

        Raises:
            InvalidSettings: it is to leave, and there is nowhere to.
        """
        if self.archive_after_days is None:
            return None
        if self.archive_folder is None or not self.archive_folder.is_absolute():
            raise InvalidSettings(
                "BILLING_USAGE_ARCHIVE_FOLDER must be an absolute path where "
                "BILLING_USAGE_ARCHIVE_AFTER_DAYS is set, such as /var/lib/billing/archives; it is "
                f"{self.archive_folder or 'not set'}"
            )
        return Retention(
            after=dt.timedelta(days=self.archive_after_days),
            folder=self.archive_folder,
            keys_remembered=dt.timedelta(days=self.keys_remembered_days),
            even_uninvoiced=self.archive_uninvoiced,
        )

    def keyring(self) -> Keyring | None:
        """Return the master keys; None when there are none.

        Raises:
            InvalidSettings: they can not be read.
        """
        text = self._given_or_kept(self.master_keys, MASTER_KEYS_FILE)
        if text is None:
            return None
        try:
            return Keyring.parse(text)
        except InvalidMasterKeys as error:
            raise InvalidSettings(f"BILLING_MASTER_KEYS: {error}") from None

    def _provider(self, policy: Policy) -> Provider | None:
        if self.provider is None:
            if self.provider_key is not None:
                raise InvalidSettings(
                    "BILLING_PROVIDER_KEY is set and BILLING_PROVIDER is not; set that to stripe"
                )
            return None
        try:
            guard.check_url(self.provider_url, policy=policy)
        except guard.UrlRefused as error:
            raise InvalidSettings(f"BILLING_PROVIDER_URL: {error}") from None
        return Provider(
            name=self.provider,
            secret_key=self._provider_key(),
            base_url=self.provider_url,
            collects=self.provider_collects,
            timeout=dt.timedelta(seconds=self.provider_timeout_seconds),
        )

    def _provider_key(self) -> str:
        key = "" if self.provider_key is None else self.provider_key.get_secret_value().strip()
        if not SECRET_KEY.fullmatch(key) or key.startswith(PUBLISHABLE_KEY):
            raise InvalidSettings(
                "BILLING_PROVIDER_KEY must be a secret key, such as sk_live_… or rk_live_…, where "
                "BILLING_PROVIDER is set; it is "
                + ("not set" if not key else "something else, which is not shown")
            )
        return key

    def signing_keys(self) -> MessageKeys | None:
        """Return what task messages are signed with; None when they are not.

        Raises:
            InvalidSettings: it can not be read.
        """
        if self.message_keys is None:
            return None
        try:
            return MessageKeys.parse(self.message_keys.get_secret_value())
        except InvalidMessageKeys as error:
            raise InvalidSettings(f"BILLING_MESSAGE_KEYS: {error}") from None

    def peppers(self) -> Peppers | None:
        """Return what identities that had a trial are hashed with; None when there is nothing.

        Raises:
            InvalidSettings: it can not be read.
        """
        text = self._given_or_kept(self.trial_peppers, TRIAL_PEPPERS_FILE)
        if text is None:
            return None
        try:
            return Peppers.parse(text)
        except InvalidPeppers as error:
            raise InvalidSettings(f"BILLING_TRIAL_PEPPERS: {error}") from None

    def _address_policy(self) -> Policy:
        try:
            return Policy(
                allow_http=self.allow_http,
                allowed_private_hosts=self.private_hosts,
                own_servers=FLOWER | self._own_servers(),
            )
        except ValueError as error:
            raise InvalidSettings(f"BILLING_WEBHOOK_PRIVATE_HOSTS: {error}") from None

    def _own_servers(self) -> frozenset[str]:
        """Return host and port of every server we are told of."""
        asked = (
            lambda: self.database_options().url,
            self.broker,
            self.results,
            self.stream,
        )
        found = set()
        for url in asked:
            try:
                found.add(_address_of(url()))
            except InvalidSettings:
                continue  # who needs that one says so
        return frozenset(address for address in found if address is not None)

    def _given_or_kept(self, given: SecretStr | None, file: str) -> str | None:
        if given is not None:
            return given.get_secret_value()
        if self.database_url is not None:
            return None  # development keys never seal what is kept in a database of one's own
        try:
            return (self.local_folder / file).read_text().strip()
        except FileNotFoundError:
            return None

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
        faults += [f"{fault['loc'][0]}: {_reason(fault['msg'])}" for fault in error.errors()]
    if faults:
        raise InvalidSettings("; ".join(faults))
    return chosen


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")


SECRETS: Final = tuple(
    str(field.validation_alias)
    for field in Settings.model_fields.values()
    if field.annotation == SecretStr | None
)
"""Variables whose value is for nobody's eyes; each may be read from a file (VARIABLE_FILE)."""


def _address_of(url: str | None) -> str | None:
    """Return "host:port" of a server's URL; None if it names no host."""
    parts = urlsplit(url or "")
    port = parts.port or DEFAULT_PORTS.get(parts.scheme.partition("+")[0])
    if not parts.hostname or port is None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def is_loopback(address: str) -> bool:
    """Tell whether only this machine reaches what listens on an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _scheme(variable: str, url: str) -> str:
    """Return how a URL begins. What is wrong with it is said without it: it may hold a password."""
    try:
        parts = urlsplit(url)
        readable = bool(parts.scheme) and "://" in url and (parts.port is None or parts.port > 0)
    except ValueError:
        readable = False
    if not readable:
        raise InvalidSettings(
            f"{variable} can not be read as a URL, such as redis://:password@host:6379/0; what has "
            "a meaning in URLs is written with % in a password"
        )
    return parts.scheme


def _checked(variable: str, url: str) -> broker_tls.Checked:
    try:
        return broker_tls.check(url)
    except broker_tls.InvalidTls as error:
        raise InvalidSettings(f"{variable} {error}") from None


def is_redis(url: str) -> bool:
    """Tell whether a broker's URL is one of Redis (or Valkey), which also keeps answers."""
    return url.startswith(("redis://", "rediss://"))
