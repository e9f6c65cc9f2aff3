// Any bytes as the metadata of a GGUF model: no crash in what makes a configuration, a tokenizer
// and a chat template of it, and whatever is accepted can be used.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "engine/gguf/config.hpp"
#include "engine/gguf/end_tokens.hpp"
#include "engine/gguf/tokenizer.hpp"
#include "engine/gguf/weights.hpp"
#include "storage/gguf.hpp"

namespace {

using namespace troupe;

engine::weight_lookup lookup_in(const storage::gguf_header& header,
                                std::span<const std::byte> file) {
  return [&header, file](std::string_view name) -> std::optional<engine::weight_view> {
    for (const auto& tensor : header.tensors)
      if (tensor.name == name) {
        engine::weight_view out;
        out.type = tensor.type;
        out.shape = tensor.shape;
        out.data = file.data() + tensor.offset_bytes;
        return out;
      }
    return std::nullopt;
  };
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span{data, size});
  const auto header = storage::parse_gguf(file, size, "input");
  if (!header)
    return 0;
  const engine::gguf_source source{header->values, lookup_in(*header, file), "input"};
  if (const auto config = engine::gguf_model_config(source)) {
    if (config->head_dim % 2 != 0 || config->heads % config->kv_heads != 0 ||
        config->windows.size() != static_cast<size_t>(config->layers))
      std::abort();
    const auto find = engine::gguf_weights(*config, source.tensors);
    if (find("model.embed_tokens.weight")->shape[0] != config->vocab_size)
      std::abort();
    find("model.layers.0.self_attn.q_proj.weight");
  }
  if (const auto tokens = engine::gguf_tokenizer(source)) {
    const auto ids = (*tokens)->encode("Hello, w\xc3\xb6rld <s> 123\n");
    (*tokens)->decode(ids);
    engine::gguf_end_tokens(header->values, static_cast<int64_t>((*tokens)->vocab_size()));
  }
  return 0;
}
