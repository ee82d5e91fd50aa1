"""What every group of settings is, and what is said of one that can not be used."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[2]
"""The folder this program's packages are in."""


class InvalidSettings(RuntimeError):
    """A variable of the environment has a value that can not be used."""


class Group(BaseSettings):
    """Settings of one room. `worker.settings.Settings` is all groups together."""

    # An empty variable is one that is not set: compose files and shells often pass those.
    model_config = SettingsConfigDict(
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        use_attribute_docstrings=True,  # docs/reference.md is written from them
    )


def folder(value: Path | None) -> Path | None:
    """Let a folder pass that is there or can be made."""
    if value is not None and value.exists() and not value.is_dir():
        raise ValueError(f"must be a folder; {value} is something else")
    return value
