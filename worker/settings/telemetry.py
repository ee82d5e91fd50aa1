"""What is counted, traced and logged."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from worker.settings.group import Group, folder


class Telemetry(Group):
    """Metrics, spans and log lines."""

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

    _usable_metrics_folder = field_validator("metrics_folder")(folder)

    def traces(self) -> bool:
        """Tell whether spans are made: where there is somewhere to send them."""
        is_wanted = not self.otel_disabled and self.otel_traces_exporter != "none"
        return is_wanted and bool(self.otel_traces_endpoint or self.otel_endpoint)

    @field_validator("otel_endpoint", "otel_traces_endpoint", mode="after")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be a URL, such as http://collector:4318")
        return value
