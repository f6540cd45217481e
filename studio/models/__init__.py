"""Base models: where they come from, whether they can be used, and what template and stop tokens they have."""
