"""Keep secrets out of what is written: errors, events, configs, the window's choices, logs.

The hub's token lives in huggingface-hub's own store or in HF_TOKEN, the key of an endpoint in the environment
(ENDPOINT_KEYS), and Studio never asks for either; but people paste addresses and commands that hold one, and servers
repeat in their errors what they were sent.
"""

from __future__ import annotations

import json
import logging
import os
import re
from typing import Any

#: Where the key of an endpoint is looked for, the first one first.
ENDPOINT_KEYS = ("STUDIO_ENDPOINT_KEY", "OPENAI_API_KEY")
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")
_KEY = re.compile(r"\bsk-[A-Za-z0-9_-]{20,}")
#: A shorter key is not looked for: it would turn up in ordinary words.
_SHORTEST = 8


def redact(text: str) -> str:
    """Give the text with every Hugging Face token replaced by "hf_***", and every key of an endpoint by "key***"."""
    if "hf_" in text:
        text = _TOKEN.sub("hf_***", text)
    for name in ENDPOINT_KEYS:
        key = os.environ.get(name, "").strip()
        if len(key) >= _SHORTEST:
            for form in {key, json.dumps(key)[1:-1], json.dumps(key, ensure_ascii=False)[1:-1]}:
                text = text.replace(form, "key***")
    return _KEY.sub("key***", text) if "sk-" in text else text


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
