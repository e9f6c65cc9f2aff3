"""Weights as codes with scales, as fp8 checkpoints and compressed-tensors keep them, for
tools/make_packed_models.py.

Codes, scales and zeros are drawn at random. What they stand for is computed by the packages that
the formats come from: transformers' `Fp8Dequantize`, and the compressors of compressed-tensors.
Only for an order of the inputs (`weight_g_idx`), which the latter no longer reads, its formula is
repeated here.
"""

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

SMALL = dict(hidden_size=64, intermediate_size=96)
WHOLE_BLOCKS = dict(hidden_size=128, intermediate_size=256)


def weights(kind, bits, strategy, **more):
    return dict(type=kind, num_bits=bits, strategy=strategy) | more


def one_group(form, args, **more):
    """quantization_config of compressed-tensors where all linear layers are kept alike."""
    group = dict(targets=["Linear"], weights=args, input_activations=None, output_activations=None)
    return dict(
        quant_method="compressed-tensors",
        format=form,
        quantization_status="compressed",
        config_groups={"group_0": group},
        ignore=["lm_head"],
    ) | more


W4 = weights("int", 4, "group", group_size=32, symmetric=True)
W8 = weights("int", 8, "channel", symmetric=True)
FP8 = dict(quant_method="fp8", activation_scheme="dynamic")
MIXED = dict(
    quant_method="compressed-tensors",
    format="mixed-precision",
    config_groups={
        "attention": dict(targets=["re:.*self_attn.*"], weights=W8, format="pack-quantized"),
        "mlp": dict(targets=["re:.*mlp.*"], weights=W4, format="pack-quantized"),
    },
    ignore=["lm_head"],
    kv_cache_scheme=weights("float", 8, "tensor"),
)

# name: (sizes, quantization_config, type of the scales, options). `blocks` = what a weight becomes
# says the same exactly, where it is not rounded to bf16; `plain` = what weights left alone are called.
MODELS = {
    "fp8_block": (
        WHOLE_BLOCKS,
        FP8 | dict(fmt="e4m3", weight_block_size=[128, 128], modules_to_not_convert=["lm_head"]),
        torch.float32,
        dict(block=(128, 128), name="weight_scale_inv", blocks=True),
    ),
    "fp8_static": (
        SMALL,
        FP8 | dict(activation_scheme="static", ignored_layers=["lm_head"]),
        torch.float32,
        dict(block=None, input_scale=True),
    ),
    "ct_float_channel": (
        WHOLE_BLOCKS,
        one_group("float-quantized", weights("float", 8, "channel", symmetric=True)),
        torch.bfloat16,
        dict(blocks=True),
    ),
    "ct_float_block": (
        SMALL,
        one_group("float-quantized", weights("float", 8, "block", block_structure=[32, 16])),
        torch.bfloat16,
        {},
    ),
    "ct_int8_channel": (
        SMALL,
        one_group("int-quantized", W8),
        torch.bfloat16,
        dict(blocks=True, plain=["layers.1.self_attn.o_proj"]),
    ),
    "ct_int8_zeros": (
        SMALL,
        one_group("int-quantized", W8 | dict(symmetric=False)),
        torch.float32,
        {},
    ),
    "ct_w4_group": (
        SMALL,
        one_group("pack-quantized", W4, ignore=["lm_head", "re:.*layers.0.mlp.down_proj"]),
        torch.bfloat16,
        dict(blocks=True, plain=["layers.0.mlp.down_proj"]),
    ),
    "ct_w4_zeros": (
        SMALL,
        one_group("pack-quantized", W4 | dict(symmetric=False)),
        torch.float16,
        {},
    ),
    "ct_w4_order": (
        SMALL,
        one_group("pack-quantized", W4 | dict(actorder="group")),
        torch.float16,
        dict(order=True),
    ),
    "ct_mixed": (SMALL, MIXED, torch.bfloat16, dict(blocks=True)),
}


def args_of(name, config):
    """The form and the arguments of the group that the weight of that name is in."""
    for group in config["config_groups"].values():
        target = group["targets"][0].removeprefix("re:").strip(".*")
        if target == "Linear" or target in name:
            return group.get("format", config["format"]), group["weights"]


def scale_shape(shape, args):
    outputs, inputs = shape
    return {
        "tensor": [1],
        "channel": [outputs, 1],
        "group": [outputs, inputs // args.get("group_size", 1)],
        "block": [-(-side // size) for side, size in zip(shape, args.get("block_structure", shape))],
    }[args["strategy"]]


def random_scales(random, shape, inputs, largest, kind):
    """So that weights are of ordinary size."""
    spread = 0.7 + 0.6 * torch.from_numpy(random.random(shape)).float()
    return (spread * 2.8 / (largest * inputs**0.5)).to(kind)


def random_floats(random, shape):
    """Every code but the two that are no number; those of subnormals, too."""
    codes = torch.from_numpy(random.integers(0, 127, shape)).to(torch.uint8)
    signs = torch.from_numpy(random.integers(0, 2, shape)).to(torch.uint8)
    return (codes // 2 + 56 * (codes % 2) + 128 * signs).clamp(max=254).view(torch.float8_e4m3fn)


def fp8_parts(random, shape, kind, options):
    outputs, inputs = shape
    values = random_floats(random, shape)
    if options["block"]:
        grid = [-(-side // size) for side, size in zip(shape, options["block"])]
    else:
        grid = []
    scales = random_scales(random, grid, inputs, 448, kind)
    parts = {"weight": values, options.get("name", "weight_scale"): scales}
    if options.get("input_scale"):
        parts["input_scale"] = torch.tensor(0.01)
    matrix = Fp8Dequantize(None)._dequantize_one(values, scales.reshape(grid or [1, 1]), torch.float)
    return parts, matrix


def compressed_parts(random, shape, form, args, kind, options):
    inputs = shape[1]
    bits, grid = args["num_bits"], scale_shape(shape, args)
    known = {key: value for key, value in args.items() if key != "actorder"}
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**known))
    half = 448 if args["type"] == "float" else 2 ** (bits - 1)
    scales = random_scales(random, grid, inputs, half, kind)
    stored = {"weight_scale": scales}
    if args["type"] == "float":
        stored["weight"] = random_floats(random, shape)
    else:
        codes = torch.from_numpy(random.integers(-half, half, shape)).to(torch.int8)
        zeros = torch.from_numpy(random.integers(-half // 4, half // 4, grid)).to(torch.int8)
        packed = form == "pack-quantized"
        if packed:
            stored["weight_packed"] = pack_to_int32(codes, bits)
            stored["weight_shape"] = torch.tensor(shape)
        else:
            stored["weight"] = codes
        if not args["symmetric"]:
            stored["weight_zero_point"] = (
                pack_to_int32(zeros, bits, packed_dim=0).contiguous() if packed else zeros
            )
    compressor = BaseCompressor.get_value_from_registry(form)
    meant = compressor.decompress(stored | {"weight_scale": scales.float()}, scheme)["weight"]
    if options.get("order"):
        groups = torch.arange(inputs) // args["group_size"]
        groups = groups[torch.from_numpy(random.permutation(inputs))]
        stored["weight_g_idx"] = groups.to(torch.int32)
        meant = codes.float() * scales.float()[:, groups]
    return stored, meant.float()


def draw(random, name, shape, model):
    """The tensors of one matrix [outputs, inputs], and what they stand for."""
    _, config, kind, options = MODELS[model]
    if config["quant_method"] == "fp8":
        return fp8_parts(random, shape, kind, options)
    return compressed_parts(random, shape, *args_of(name, config), kind, options)
