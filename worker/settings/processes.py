"""How a process connects, stops and shows that it is alive."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from worker.settings.group import Group

SOFT_SHUTDOWN_SECONDS = 20
"""What a worker gets to finish its tasks after SIGTERM, unless the environment says otherwise."""

FLOWER_BASIC_AUTH_FILE = "flower_basic_auth"
"""In the folder of the embedded servers, made once, readable by us alone."""


class Processes(Group):
    """Workers, beat and Flower."""

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

    @field_validator("flower_basic_auth", mode="after")
    @classmethod
    def _users(cls, value: SecretStr | None) -> SecretStr | None:
        users = [] if value is None else value.get_secret_value().split(",")
        if not all(name and password for name, _, password in (u.partition(":") for u in users)):
            raise ValueError("must be user:password; several are separated by commas")
        return value

    @field_validator("alive_file", mode="after")
    @classmethod
    def _file(cls, value: Path | None) -> Path | None:
        if value is not None and (value.is_dir() or not value.parent.is_dir()):
            raise ValueError(f"must be a file in a folder that is there; {value} is not")
        return value
