"""Studio turns a base model into an assistant, on one consumer GPU or a plain CPU, and proves what came out."""

__version__ = "0.1.0"
