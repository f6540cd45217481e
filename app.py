"""Open Studio's window on this machine: `python app.py`."""

from studio.ui import launch

if __name__ == "__main__":
    launch()
