"""ggml's tensors seen from Python, for reading what llama.cpp computes: an internal struct, so it is guarded.

By the version of llama-cpp-python, and by reading tensors whose name, shape, contents and sources are known.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from studio.chat.engine import library
from studio.errors import ExportError, ToolMissing

#: Versions of llama-cpp-python whose struct is the one below.
TESTED = ("0.3.36",)
F32 = 0
_WAY_OUT = (
    f"Install llama-cpp-python {TESTED[-1]}, bring a matrix with --imatrix FILE, or choose a type that needs none, as "
    "Q4_K_M."
)


class GGMLTensor(ctypes.Structure):
    """ggml's tensor as ggml 0.25 lays it out (ggml/include/ggml.h): `ne` columns first, `nb` steps in bytes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


class _Memory(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


#: ggml's functions by name: what they take and give.
Functions = dict[str, tuple[list[Any], Any]]
_FUNCTIONS: Functions = {
    "ggml_init": ([_Memory], ctypes.c_void_p),
    "ggml_free": ([ctypes.c_void_p], None),
    "ggml_tensor_overhead": ([], ctypes.c_size_t),
    "ggml_new_tensor_2d": ([ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64], ctypes.c_void_p),
    "ggml_mul_mat": ([ctypes.c_void_p] * 3, ctypes.c_void_p),
    "ggml_set_name": ([ctypes.c_void_p, ctypes.c_char_p], ctypes.c_void_p),
    "ggml_get_data": ([ctypes.c_void_p], ctypes.c_void_p),
    "ggml_nbytes": ([ctypes.c_void_p], ctypes.c_size_t),
    "ggml_op_desc": ([ctypes.c_void_p], ctypes.c_char_p),
    "ggml_backend_tensor_get": ([ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t], None),
}


def functions(version: str = "") -> Any:
    """Give ggml's functions once the struct is proven to be the one above; ExportError where it is not.

    `version` is llama-cpp-python's, by default that of the one installed.
    """
    binding = library()
    version = version or binding.__version__
    if version not in TESTED:
        raise _untried(version, "was not tried for importance matrices")
    ggml = base(_FUNCTIONS)
    wrong = _self_test(ggml)
    if wrong:
        raise _untried(version, f"lays its tensors out in another way ({wrong})")
    return ggml


def base(functions: Functions) -> Any:
    """Open llama.cpp's library ggml-base with these functions of it; ToolMissing where that fails."""
    try:
        from llama_cpp import _ctypes_extensions

        folder = Path(library().__file__).parent / "lib"
        ggml = _ctypes_extensions.load_shared_library("ggml-base", folder)
        for name, (takes, gives) in functions.items():
            function = getattr(ggml, name)
            function.argtypes, function.restype = takes, gives
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ToolMissing(f"llama.cpp's library ggml-base does not open here ({error}).", _WAY_OUT) from None
    return ggml


def _untried(version: str, why: str) -> ExportError:
    return ExportError(f"llama-cpp-python {version} {why}.", _WAY_OUT)


def _self_test(ggml: Any) -> str:
    """Build tensors whose name, shape, contents and sources are known and read them through the view.

    Gives what is read wrong, "" when all is right.
    """
    size = ctypes.sizeof(GGMLTensor)
    object_size = 32  # ggml's own head before each tensor
    if ggml.ggml_tensor_overhead() != size + object_size:
        return f"{ggml.ggml_tensor_overhead() - object_size} bytes, not {size}"
    context = ggml.ggml_init(_Memory(1 << 20, None, False))
    try:
        a, b = ggml.ggml_new_tensor_2d(context, F32, 8, 3), ggml.ggml_new_tensor_2d(context, F32, 8, 5)
        node = ggml.ggml_mul_mat(context, a, b)
        ggml.ggml_set_name(a, b"blk.0.known.weight")
        known = np.arange(40, dtype=np.float32)
        ctypes.memmove(ggml.ggml_get_data(b), known.ctypes.data, known.nbytes)
        left, right, made = view(a), view(b), view(node)
        found = {
            "name": left.name == b"blk.0.known.weight",
            "shape": (list(left.ne), list(right.ne)) == ([8, 3, 1, 1], [8, 5, 1, 1]),
            "steps": list(right.nb) == [4, 32, 160, 160],
            "type": (left.type, right.type, made.type) == (F32, F32, F32),
            "sources": (made.src[0], made.src[1], made.src[2]) == (a, b, None),
            "operation": ggml.ggml_op_desc(node) == b"MUL_MAT",
            "data": right.data == ggml.ggml_get_data(b) and ctypes.string_at(right.data, 160) == known.tobytes(),
        }
    finally:
        ggml.ggml_free(context)
    return ", ".join(name for name, right in found.items() if not right)


def view(address: int) -> GGMLTensor:
    """See the tensor at an address."""
    return GGMLTensor.from_address(address)


def plain_name(name: bytes) -> str:
    """Take off what a backend puts around a weight's name: CUDA0#blk.0.attn_k.weight#0 is blk.0.attn_k.weight."""
    head, _, rest = name.decode("utf-8", "replace").partition("#")
    return rest.partition("#")[0] if rest else head
