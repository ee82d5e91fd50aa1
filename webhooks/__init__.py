"""The wire: event catalogue, signatures, address guard, transport, retry policy."""
