"""Wiring only: the Faust application, the record-batch transport, positions, one file per pipeline."""
