"""The command line: one file a group of verbs. It prints; nothing below it does."""
