"""A small kit with I/O: settings, clock, logging, metrics, PostgreSQL, Kafka."""
