"""The GGUF format's tables: types of values and of tensors by the numbers that files hold, and how large things may be.

From the format's specification, and the layout of ggml's blocks (llama.cpp 0.5.0): scales, then packed weights.
"""

from __future__ import annotations

MAX_HEAD = 128 << 20  # bytes before the tensors' data: Gemma's 262,144 tokens take 16 MB
MAX_ENTRIES = 65_536  # keys, and tensors
MAX_STRINGS = 2_000_000  # in all arrays: tokens and merges of the largest vocabularies are 800,000
MAX_KEY, MAX_TENSOR_NAME = 65_535, 63
MAX_DIMS, MAX_LAYERS, MAX_ALIGNMENT = 4, 512, 1 << 16

#: value types by number: name, and struct's code for numbers
VALUES = {
    0: ("UINT8", "B"),
    1: ("INT8", "b"),
    2: ("UINT16", "H"),
    3: ("INT16", "h"),
    4: ("UINT32", "I"),
    5: ("INT32", "i"),
    6: ("FLOAT32", "f"),
    7: ("BOOL", "B"),
    8: ("STRING", ""),
    9: ("ARRAY", ""),
    10: ("UINT64", "Q"),
    11: ("INT64", "q"),
    12: ("FLOAT64", "d"),
}
BOOL, STRING, ARRAY = 7, 8, 9

#: tensor types by number: name, weights in a block, its bytes as ggml lays them out (scales, then packed weights).
#: Q8_1 and Q8_K are not here: llama.cpp makes them while it computes, and no file holds them.
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 2 + 32 // 2),
    3: ("Q4_1", 32, 2 + 2 + 32 // 2),
    6: ("Q5_0", 32, 2 + 32 // 8 + 32 // 2),
    7: ("Q5_1", 32, 2 + 2 + 32 // 8 + 32 // 2),
    8: ("Q8_0", 32, 2 + 32),
    10: ("Q2_K", 256, 2 + 2 + 16 + 256 // 4),
    11: ("Q3_K", 256, 2 + 12 + 256 // 8 + 256 // 4),
    12: ("Q4_K", 256, 2 + 2 + 12 + 256 // 2),
    13: ("Q5_K", 256, 2 + 2 + 12 + 256 // 8 + 256 // 2),
    14: ("Q6_K", 256, 2 + 16 + 256 // 4 + 256 // 2),
    16: ("IQ2_XXS", 256, 2 + 256 // 4),
    17: ("IQ2_XS", 256, 2 + 8 + 256 // 4),
    18: ("IQ3_XXS", 256, 2 + 256 // 8 + 256 // 4),
    19: ("IQ1_S", 256, 2 + 16 + 256 // 8),
    20: ("IQ4_NL", 32, 2 + 32 // 2),
    21: ("IQ3_S", 256, 2 + 4 + 8 + 256 // 8 + 256 // 4),
    22: ("IQ2_S", 256, 2 + 8 + 8 + 256 // 4),
    23: ("IQ4_XS", 256, 2 + 2 + 4 + 256 // 2),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 8 + 16 + 256 // 8),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 2 + 4 + 48),
    35: ("TQ2_0", 256, 2 + 256 // 4),
    39: ("MXFP4", 32, 1 + 32 // 2),
    40: ("NVFP4", 64, 4 + 64 // 2),
    41: ("Q1_0", 128, 2 + 128 // 8),
    42: ("Q2_0", 64, 2 + 64 // 4),
}
