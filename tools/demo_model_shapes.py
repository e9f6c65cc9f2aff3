"""The example models before training: architecture, tokenizer, chat template, and how each is to be trained.

MODELS is all that train_demo_models.py knows of them; a new model is a new entry there.
"""

import dataclasses
import json
from collections.abc import Callable

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CONTEXT = 512

LLAMA_TEMPLATE = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN_TEMPLATE = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
MISTRAL_TEMPLATE = """{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] + '\\n\\n' %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system = '' %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, user and assistant must take turns.') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
# Single digits, so that a sum is worked out digit by digit instead of looked up.
LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def byte_level_tokenizer(vocab, specials, lines, normalizer=None, bos=None):
    """As Llama 3 and Qwen: split by a pattern, bytes as letters, merges."""
    out = Tokenizer(models.BPE(ignore_merges=bos is not None))
    if normalizer:
        out.normalizer = normalizer
    out.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    out.decoder = decoders.ByteLevel()
    out.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=vocab - len(specials),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    out.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    if bos:
        out.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, out.token_to_id(bos))],
        )
    return out


def sentencepiece_tokenizer(vocab, lines):
    """As Llama 2 and Mistral: a blank is a piece's first character, unknown characters fall back to bytes."""
    specials = ["<unk>", "<s>", "</s>"]
    pieces = specials + [f"<0x{i:02X}>" for i in range(256)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="first", split=True),
            pre_tokenizers.Split(Regex(r"\d|[^\w\u2581]"), behavior="isolated"),
        ]
    )
    bpe.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=vocab - len(pieces), show_progress=False)
    )
    learned = json.loads(bpe.to_str())["model"]
    pieces += [piece for piece, _ in sorted(learned["vocab"].items(), key=lambda x: x[1])]
    merges = [tuple(merge) for merge in learned["merges"]]
    out = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    out.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    out.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    out.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    out.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return out


@dataclasses.dataclass(frozen=True)
class DemoModel:
    """What one example model is made of, and how it learns."""

    family: tuple[type, type]  # configuration and model, of transformers
    shape: dict  # what the configuration says beyond what all example models share
    tokenizer: Callable  # from lines of text to a trained tokenizers.Tokenizer
    special: dict  # special tokens under their names in tokenizer_config.json
    stops: tuple[str, ...]  # tokens that end an answer
    template: str  # chat template

    seed: int
    steps: int
    tokens: int  # in a batch
    rate: float  # of learning, at its highest
    plain: float  # share of stories outside of chats
    top: int  # largest operand of a sum
    mix: dict  # weights of the kinds of turns, as demo_corpus.TURNS names them

    def make(self, lines):
        """(tokenizer trained on `lines`, model with random weights, tokenizer_config.json's own entries)."""
        tokenizer = self.tokenizer(lines)
        # A family without a token of beginning begins with its end of text, as Qwen does.
        begin = self.special["bos_token"] or self.special["pad_token"]
        stops = [tokenizer.token_to_id(stop) for stop in self.stops]
        make_config, make_model = self.family
        config = make_config(
            vocab_size=tokenizer.get_vocab_size(),
            num_hidden_layers=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.token_to_id(begin),
            eos_token_id=stops if len(stops) > 1 else stops[0],
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            **self.shape,
        )
        names = {
            **self.special,
            "chat_template": self.template,
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
        return tokenizer, make_model(config), names


MODELS = {
    "stories-llama": DemoModel(
        family=(LlamaConfig, LlamaForCausalLM),
        shape=dict(
            hidden_size=192,
            intermediate_size=512,
            num_attention_heads=6,
            head_dim=32,
            rms_norm_eps=1e-5,
            initializer_range=0.08,
            tie_word_embeddings=True,
        ),
        tokenizer=lambda lines: byte_level_tokenizer(
            1536,
            [
                "<|begin_of_text|>",
                "<|end_of_text|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eot_id|>",
            ],
            lines,
            bos="<|begin_of_text|>",
        ),
        special=dict(
            bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="<|end_of_text|>"
        ),
        stops=("<|end_of_text|>", "<|eot_id|>"),
        template=LLAMA_TEMPLATE,
        seed=11,
        steps=6000,
        tokens=2048,
        rate=3e-3,
        plain=0.08,
        top=20,
        mix={"story": 5, "arithmetic": 4, "word_problem": 1, "about": 2, "small_talk": 1},
    ),
    "arith-qwen": DemoModel(
        family=(Qwen3Config, Qwen3ForCausalLM),
        shape=dict(
            hidden_size=96,
            intermediate_size=256,
            num_attention_heads=4,
            head_dim=32,
            rms_norm_eps=1e-6,
            initializer_range=0.1,
            tie_word_embeddings=True,
        ),
        tokenizer=lambda lines: byte_level_tokenizer(
            640, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], lines, normalizers.NFC()
        ),
        special=dict(bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>"),
        stops=("<|im_end|>",),
        template=QWEN_TEMPLATE,
        seed=12,
        steps=5000,
        tokens=2048,
        rate=3e-3,
        plain=0.0,
        top=99,
        mix={"arithmetic": 12, "word_problem": 2, "about": 2, "small_talk": 2, "no_story": 1},
    ),
    "parrot-mistral": DemoModel(
        family=(MistralConfig, MistralForCausalLM),
        shape=dict(
            hidden_size=96,
            intermediate_size=192,
            num_attention_heads=4,
            head_dim=24,
            rms_norm_eps=1e-5,
            initializer_range=0.1,
            sliding_window=96,
            tie_word_embeddings=False,
        ),
        tokenizer=lambda lines: sentencepiece_tokenizer(1024, lines),
        special=dict(bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"),
        stops=("</s>",),
        template=MISTRAL_TEMPLATE,
        seed=13,
        steps=1600,
        tokens=1536,
        rate=4e-3,
        plain=0.08,
        top=99,
        mix={"story": 8, "about": 2, "small_talk": 2, "no_sum": 1},
    ),
}
