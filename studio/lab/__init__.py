"""Guided walks made of the rooms below; they start runs with the function that the worker hands them."""
