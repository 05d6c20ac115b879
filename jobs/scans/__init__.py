"""Scans processed in the background: previews while frames come in, the final result and its files at the end."""
