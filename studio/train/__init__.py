"""Train: the base with its adapters, and the one transformers.Trainer subclass."""
