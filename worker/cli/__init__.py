"""The `billing` command."""


def main() -> None:
    """Run the `billing` command."""
