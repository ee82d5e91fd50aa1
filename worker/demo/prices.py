"""What the demo's usage costs, read from its price list."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from worker import catalog_file
from worker.demo import scenario

CATALOG = Path(__file__).resolve().parents[2] / "examples" / "catalog.yaml"


@dataclass(frozen=True, slots=True)
class Price:
    """A price of the plan in one currency, in major units."""

    metric: str | None
    unit_amounts: dict[str, str]
    description: str


def prices() -> list[Price]:
    """Return the prices of the plan that the tenants are on, as the catalogue's file has them."""
    plans = {plan["plan_key"]: plan for plan in catalog()["plans"]}
    found: dict[str, Price] = {}
    for said in plans[scenario.PLAN_KEY]["prices"]:
        key = said["price_key"]
        price = found.setdefault(key, Price(said.get("metric"), {}, said["description"]))
        price.unit_amounts[said["currency"]] = str(said["unit_amount"])
    return list(found.values())


def percent_of(kind: str, key: str) -> Decimal:
    """Return what a coupon or a tax rate of the catalogue comes to, in percent.

    Args:
        kind: "coupon" or "tax".
        key: the coupon's or the rate's key.
    """
    part, name = {"coupon": ("coupons", "coupon_key"), "tax": ("tax_rates", "tax_key")}[kind]
    (found,) = (one for one in catalog()[part] if one[name] == key)
    return Decimal(str(found["percent"]))


def catalog() -> dict[str, Any]:
    """Return what is sold: the sample catalogue of the examples."""
    return catalog_file.read(CATALOG.read_text("utf-8"), "yaml")
