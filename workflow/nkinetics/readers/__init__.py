"""Readers: one export format each, content to raw rows."""
