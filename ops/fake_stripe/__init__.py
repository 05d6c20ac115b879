"""A stateful stand-in for Stripe's billing API, for tests and for `weir up`: strict, persistent, faulty on demand."""
