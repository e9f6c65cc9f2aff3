"""Rows as blocks of Q4_K and Q6_K, for which the `gguf` package has decoders only.

Every value is rounded to the nearest that its block can say; scales come from the extremes. Makers of
published files search for better scales, which changes no speed.
"""

import gguf
import numpy as np

K = 256


def divided(x, by):
    return np.divide(x, by, out=np.zeros_like(x), where=by != 0)


def halves(x):
    """f16 numbers as two bytes each."""
    return x.astype(np.float16).view(np.uint8).reshape(*x.shape[:-1], -1)


def q4_k(rows):
    x = rows.reshape(-1, 8, 32)
    low = np.minimum(x.min(axis=2), 0)
    scale, minimum = (x.max(axis=2) - low) / 15, -low
    unit = (scale.max(axis=1, keepdims=True) / 63).astype(np.float16).astype(np.float32)
    below = (minimum.max(axis=1, keepdims=True) / 63).astype(np.float16).astype(np.float32)
    scales = np.clip(np.rint(divided(scale, unit)), 0, 63).astype(np.uint8)
    minimums = np.clip(np.rint(divided(minimum, below)), 0, 63).astype(np.uint8)
    step, from_zero = (unit * scales)[..., None], (below * minimums)[..., None]
    levels = np.clip(np.rint(divided(x + from_zero, step)), 0, 15).astype(np.uint8)
    packed = np.empty((len(x), 12), np.uint8)
    packed[:, 0:4] = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    packed[:, 4:8] = minimums[:, :4] | (minimums[:, 4:] >> 4) << 6
    packed[:, 8:12] = (scales[:, 4:] & 15) | (minimums[:, 4:] & 15) << 4
    pairs = levels.reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)
    return np.concatenate([halves(unit), halves(below), packed, nibbles], axis=1)


def q6_k(rows):
    x = rows.reshape(-1, 16, 16)
    scale = np.abs(x).max(axis=2) / 32
    unit = (scale.max(axis=1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    scales = np.clip(np.rint(divided(scale, unit)), 0, 127).astype(np.uint8)
    levels = np.clip(np.rint(divided(x, (unit * scales)[..., None])), -32, 31) + 32
    quarters = levels.astype(np.uint8).reshape(-1, 2, 4, 32)  # of each half
    low = quarters & 15
    nibbles = np.concatenate([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], 2)
    upper = quarters >> 4
    upper = upper[:, :, 0] | upper[:, :, 1] << 2 | upper[:, :, 2] << 4 | upper[:, :, 3] << 6
    return np.concatenate(
        [nibbles.reshape(-1, 128), upper.reshape(-1, 64), scales, halves(unit)], axis=1
    )


def quantize(rows, kind):
    """[rows, columns] of f32 as bytes of `kind`."""
    makers = {gguf.GGMLQuantizationType.Q4_K: q4_k, gguf.GGMLQuantizationType.Q6_K: q6_k}
    if kind not in makers:
        return gguf.quants.quantize(rows, kind)
    parts = [makers[kind](part) for part in np.array_split(rows, max(1, rows.size >> 24))]
    return np.concatenate(parts).reshape(len(rows), -1)


def q4_k_m(name, layer, layers, columns):
    """What the mix that most GGUF files are has a matrix in."""
    kinds = gguf.GGMLQuantizationType
    many = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    better = name == "token_embd" or (name in ("attn_v", "ffn_down") and many)
    if columns % K != 0:
        return kinds.Q8_0 if better else kinds.Q5_0
    return kinds.Q6_K if better else kinds.Q4_K
