"""The servers that `weir up` and the tests bring along: PostgreSQL and a Kafka-compatible broker, both from wheels."""
