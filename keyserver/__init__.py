"""The key server: accounts, signed device lists and prekeys. It holds public keys alone."""
