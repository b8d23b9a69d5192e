"""The commands: composition roots that may import every package and own no rules."""
