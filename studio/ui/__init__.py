"""The window: six steps in a browser, drawn from what lies on disk. Importing it loads neither gradio nor torch."""

from studio.ui.serve import launch

__all__ = ["launch"]
