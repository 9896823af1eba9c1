"""Reads tables."""
