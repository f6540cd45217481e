"""From a base and an adapter to a GGUF file that behaves as trained, proven by opening it."""
