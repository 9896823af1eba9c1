"""Scores rows."""
