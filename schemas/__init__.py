"""The shape of all data: messages, units, errors, topics, and the database schema as SQL. Imports nothing of ours."""
