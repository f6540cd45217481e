"""Methods of post-training, one file each.

Adding one costs a file, a pure loss if the mathematics is new, and a line here.
"""

from __future__ import annotations

from studio.methods import dpo, sft
from studio.methods.base import Method

METHODS: dict[str, Method] = {method.name: method for method in (sft.METHOD, dpo.METHOD)}

__all__ = ["METHODS", "Method"]
