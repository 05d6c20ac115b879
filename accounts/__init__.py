"""Tenants, devices and their credentials."""
