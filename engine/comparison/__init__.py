"""Comparing results by label: structure, values, meaning, conclusions, and why they differ."""
