"""Keep the hub's token out of what is written: errors, events, configs, the window's choices, logs.

The token lives in huggingface-hub's own store or in HF_TOKEN, and Studio never asks for it; but people paste addresses
and commands that hold one.
"""

from __future__ import annotations

import logging
import re
from typing import Any

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")


def redact(text: str) -> str:
    """Give the text with every Hugging Face token replaced by "hf_***"."""
    return _TOKEN.sub("hf_***", text) if "hf_" in text else text


def redact_logs() -> None:
    """Redact what any library of this process logs from now on."""
    make = logging.getLogRecordFactory()
    if make.__module__ == __name__:
        return  # done already

    def redacted(*args: Any, **words: Any) -> logging.LogRecord:
        record = make(*args, **words)
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a library's mistake, which logging itself will tell
            return record
        if redact(text) != text:
            record.msg, record.args = redact(text), ()
        return record

    logging.setLogRecordFactory(redacted)
