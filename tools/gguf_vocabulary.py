"""The tokenizer and the chat template of a Hugging Face directory as GGUF metadata, the way llama.cpp's
converter writes them. For hf_to_gguf.py and make_gguf_tokenizers.py."""

import json

import gguf

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
LETTERS = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (
    LETTERS + r"*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|" + LETTERS + r"+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (
    LETTERS + r"*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + CONTRACTIONS + "|"
    + LETTERS + r"+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + CONTRACTIONS
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KINDS = {LLAMA3: "llama-bpe", QWEN2: "qwen2", TEKKEN: "tekken", GPT4O: "gpt-4o"}


def pre_kind(state):
    """The name that a tokenizer.json's way of cutting texts into words has."""
    spec = state["pre_tokenizer"]
    steps = spec["pretokenizers"] if spec["type"] == "Sequence" else [spec]
    if steps[0]["type"] == "Split":
        return KINDS[steps[0]["pattern"]["Regex"]]
    return "smollm" if steps[0]["type"] == "Digits" else "gpt-2"


def write_byte_level(writer, state, vocab_size, pre=None):
    texts = {i: text for text, i in state["model"]["vocab"].items()}
    added = {a["id"]: a for a in state["added_tokens"]}
    tokens, kinds = [], []
    for i in range(max(vocab_size, max([*texts, *added]) + 1)):
        if i in added:
            tokens.append(added[i]["content"])
            kinds.append(
                gguf.TokenType.CONTROL if added[i]["special"] else gguf.TokenType.USER_DEFINED
            )
        elif i in texts:
            tokens.append(texts[i])
            kinds.append(gguf.TokenType.NORMAL)
        else:
            tokens.append(f"[PAD{i}]")
            kinds.append(gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre or pre_kind(state))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = state["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])


def begin_token(state):
    """The id that the post-processor puts first, or None."""
    stack = [state["post_processor"]]
    while stack:
        spec = stack.pop()
        if not spec:
            continue
        stack += spec.get("processors", [])
        if spec["type"] == "TemplateProcessing" and "SpecialToken" in spec["single"][0]:
            name = spec["single"][0]["SpecialToken"]["id"]
            return spec["special_tokens"][name]["ids"][0]
    return None


def write_tokenizer(writer, model):
    state = json.loads((model / "tokenizer.json").read_text())
    config = json.loads((model / "config.json").read_text())
    tokenizer_config = json.loads((model / "tokenizer_config.json").read_text())
    if state["model"].get("byte_fallback"):
        raise SystemExit(f"{model}: SentencePiece models are not converted, their scores are lost")
    write_byte_level(writer, state, config["vocab_size"])
    ids = {a["content"]: a["id"] for a in state["added_tokens"]}
    begin = begin_token(state)
    if begin is not None:
        writer.add_bos_token_id(begin)
    writer.add_add_bos_token(begin is not None)
    if tokenizer_config.get("eos_token") in ids:
        writer.add_eos_token_id(ids[tokenizer_config["eos_token"]])
    if "chat_template" in tokenizer_config:
        writer.add_chat_template(tokenizer_config["chat_template"])
