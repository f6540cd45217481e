"""Open Studio's window on this machine: `python app.py`."""

import sys

from studio.errors import StudioError
from studio.ui import launch

if __name__ == "__main__":
    try:
        launch()
    except StudioError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
