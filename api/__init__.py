"""The FastAPI application: REST resources over the tenant views, health, metrics."""
