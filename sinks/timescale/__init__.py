"""The TimescaleDB or PostgreSQL store: writing, reading, roll-ups, migrations."""
