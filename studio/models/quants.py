"""The types of file that llama.cpp makes, in one table (studio/models/mixture.py says what each makes of a tensor)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

from studio.errors import ConfigError

DEFAULT = "Q8_0"


@dataclasses.dataclass(frozen=True)
class Type:
    """A type of file: llama.cpp's constant (LLAMA_FTYPE_...), the type of an ordinary tensor, and what a user gets.

    `group` is where the window lists it: recommended, small (made with an importance matrix) or other.
    """

    name: str
    constant: str
    tensor: str
    says: str
    needs_imatrix: bool = False
    group: str = "other"

    @property
    def bits(self) -> float:
        """Bits that a weight of an ordinary tensor takes."""
        return bits(self.tensor)

    @property
    def takes_imatrix(self) -> bool:
        """Tell whether llama.cpp uses an importance matrix for it: for all but the plain numbers and Q8_0."""
        return self.tensor not in ("F32", "F16", "BF16", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4")


def _type(name: str, tensor: str, says: str, *, needs: bool = False, group: str = "other") -> Type:
    return Type(name, f"LLAMA_FTYPE_{'ALL' if name == 'F32' else 'MOSTLY'}_{name}", tensor, says, needs, group)


_ALL = (
    _type("F32", "F32", "Every weight as it was computed; twice the size of F16 and hardly ever worth it."),
    _type("F16", "F16", "16 bits a weight: what the other types are made from and measured against."),
    _type("BF16", "BF16", "16 bits as most models are trained in: wider range, fewer digits than F16."),
    _type("Q8_0", "Q8_0", "Half of F16 and nearly exact: the safe choice.", group="recommended"),
    _type("Q6_K", "Q6_K", "Two fifths of F16; a difference is rarely seen.", group="recommended"),
    _type("Q5_K_M", "Q5_K", "A third of F16; close to the original.", group="recommended"),
    _type("Q5_K_S", "Q5_K", "Slightly smaller than Q5_K_M, slightly less exact."),
    _type("Q5_1", "Q5_1", "An older 5-bit type, a little larger than Q5_K_M and no better."),
    _type("Q5_0", "Q5_0", "An older 5-bit type; Q5_K_S is better at its size."),
    _type("Q4_K_M", "Q4_K", "A quarter to a third of F16; small losses that a short chat hides.", group="recommended"),
    _type("Q4_K_S", "Q4_K", "Slightly smaller than Q4_K_M, slightly less exact."),
    _type("Q4_1", "Q4_1", "An older 4-bit type, larger than Q4_K_S and less exact."),
    _type("Q4_0", "Q4_0", "An older 4-bit type; fast on telephones and ARM processors."),
    _type("IQ4_NL", "IQ4_NL", "4 bits on a curve; good where rows are no multiple of 256."),
    _type("IQ4_XS", "IQ4_XS", "The smallest 4-bit type; near Q4_K_S, slower on old processors."),
    _type("Q3_K_L", "Q3_K", "3 bits with more for what matters; losses begin to show."),
    _type("Q3_K_M", "Q3_K", "About a quarter of F16; losses show."),
    _type("Q3_K_S", "Q3_K", "Smaller still; losses show clearly."),
    _type("IQ3_M", "IQ3_S", "About 3.7 bits; better than Q3_K_M at its size."),
    _type("IQ3_S", "IQ3_S", "About 3.4 bits; better than Q3_K_S at its size."),
    _type("IQ3_XS", "IQ3_S", "About 3.3 bits.", needs=True, group="small"),
    _type(
        "IQ3_XXS",
        "IQ3_XXS",
        "About 3.1 bits: the last size at which large models stay useful.",
        needs=True,
        group="small",
    ),
    _type("Q2_K", "Q2_K", "Below 3 bits without an importance matrix: large losses."),
    _type("Q2_K_S", "Q2_K", "Slightly smaller than Q2_K, made with an importance matrix.", needs=True, group="small"),
    _type("IQ2_M", "IQ2_S", "About 2.7 bits; for large models that fit in no other way.", needs=True, group="small"),
    _type("IQ2_S", "IQ2_XS", "About 2.5 bits; large losses.", needs=True, group="small"),
    _type("IQ2_XS", "IQ2_XS", "About 2.3 bits; large losses.", needs=True, group="small"),
    _type("IQ2_XXS", "IQ2_XXS", "About 2.1 bits; very large losses.", needs=True, group="small"),
    _type("IQ1_M", "IQ1_M", "About 1.8 bits; small models only babble.", needs=True, group="small"),
    _type(
        "IQ1_S", "IQ1_S", "About 1.6 bits, the smallest there is; small models only babble.", needs=True, group="small"
    ),
    _type("TQ2_0", "TQ2_0", "Three values a weight, for models trained so (BitNet); useless for others."),
    _type("TQ1_0", "TQ1_0", "The same as TQ2_0, packed tighter and slower."),
    _type("MXFP4_MOE", "MXFP4", "4-bit numbers for the experts of a mixture, Q8_0 for the rest."),
)
TYPES: dict[str, Type] = {made.name: made for made in _ALL}


@functools.cache
def block(tensor_type: str) -> tuple[int, int]:
    """Give (weights, bytes) of a block of a tensor type, from gguf's table."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[tensor_type]]
    return int(weights), int(size)


def bits(tensor_type: str) -> float:
    """Bits that a weight takes in a tensor of this type."""
    weights, size = block(tensor_type)
    return 8 * size / weights


def check(names: Iterable[str], experts: int | None = None) -> list[str]:
    """Give the types in capitals and without repeats, Q8_0 when there are none.

    ConfigError for one that does not exist, and for MXFP4_MOE where the model has no `experts` (None: not known yet).
    """
    found = list(dict.fromkeys(name.strip().upper() for name in names)) or [DEFAULT]
    for name in found:
        if name not in TYPES:
            raise ConfigError(f"There is no type {name!r}.", f"Choose from: {', '.join(TYPES)}.", field="quant")
        if name == "MXFP4_MOE" and experts == 0:
            raise ConfigError(
                "MXFP4_MOE is for mixtures of experts, and this model is none.",
                "Choose Q4_K_M, which has about its size.",
                field="quant",
            )
    return found
