"""From a conversation to token ids and a loss mask: one renderer for training, preview, chat and export."""
