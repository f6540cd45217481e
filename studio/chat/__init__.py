"""Chat through llama.cpp in a process of its own, several models side by side."""
