"""The server that stores and forwards what it cannot read."""
