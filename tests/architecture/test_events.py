"""Every event is found where a reader looks first: webhooks/events/__init__.py."""

import importlib
import pkgutil

from webhooks import events


def test_the_catalogue_lists_every_event() -> None:
    for subject in pkgutil.iter_modules(events.__path__, "webhooks.events."):
        module = importlib.import_module(subject.name)
        made = {name for name, one in vars(module).items() if is_event_of(one, subject.name)}

        assert made <= set(events.__all__), f"{subject.name} has more than webhooks/events lists"


def is_event_of(found: object, module: str) -> bool:
    return (
        isinstance(found, type) and issubclass(found, events.Event) and found.__module__ == module
    )
