"""Writes tables."""
