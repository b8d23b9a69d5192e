"""What all SQL stores share: the engine with its one writer, column types, migrations."""
