"""Evaluations: one file a suite."""
