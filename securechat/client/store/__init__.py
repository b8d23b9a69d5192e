"""The client's store: one encrypted file, or memory; the same repositories and rules on both."""
