"""Prompts as llama-cpp-python makes them of a file's template, on its own: the second opinion of a certificate.

Its Jinja environment is sandboxed; it runs in a child all the same, since a template may take for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

HANDLER = "studio.export.rendered:handle"


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Render `conversations` with the template of the file `gguf`.

    Gives {"texts", "ids"}: each as text, and in the tokens that llama.cpp reads in the whole text, control tokens
    included, with no BOS added. A template that refuses a conversation gives None in both.
    """
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    llama = llama_cpp.Llama(request["gguf"], vocab_only=True, verbose=False)
    meta = llama.metadata

    def token(name: str) -> str:
        index = int(meta.get(f"tokenizer.ggml.{name}_token_id", -1))
        return llama._model.token_get_text(index) if index >= 0 else ""

    formatter = Jinja2ChatFormatter(
        meta.get("tokenizer.chat_template", ""), eos_token=token("eos"), bos_token=token("bos")
    )
    texts: list[str | None] = []
    ids: list[list[int] | None] = []
    for conversation in request["conversations"]:
        try:
            text = formatter(messages=conversation).prompt
        except Exception:  # whatever a template may raise: it refuses
            texts.append(None)
            ids.append(None)
            continue
        texts.append(text)
        ids.append(llama.tokenize(text.encode("utf-8"), add_bos=False, special=True))
    llama.close()
    yield {"texts": texts, "ids": ids}
