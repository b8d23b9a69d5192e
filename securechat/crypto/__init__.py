"""Primitives only: bytes in, bytes out. The only users of nacl, cryptography and argon2."""
