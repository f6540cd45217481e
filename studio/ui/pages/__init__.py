"""The six pages, one file each: a page lays out and wires; it computes nothing."""
