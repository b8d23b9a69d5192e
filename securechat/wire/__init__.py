"""The formats both ends speak: frozen values and exact bytes; docs/format.md is normative."""
