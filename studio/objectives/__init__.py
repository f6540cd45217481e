"""Objectives as pure torch functions: no model, no device, no config; nothing else of ours is imported."""
