#include "actors/model_files.hpp"

#include "engine/frontend/frontend.hpp"
#include "storage/checkpoint.hpp"

namespace troupe::actors {

opened_model open_model_files(const load_order& order, const open_progress& progress) {
  opened_model out;
  auto config = engine::load_model_config(order.dir);
  if (!config) {
    out.why = config.error();
    return out;
  }
  out.config = std::make_shared<const engine::model_config>(std::move(*config));
  auto files = storage::checkpoint::open(order.dir);
  if (!files) {
    out.why = files.error();
    return out;
  }
  out.why = (*files)->warm(progress);
  if (out.why)
    return out;
  out.weight_bytes = (*files)->size_bytes();
  out.lookup = [from = files->get()](std::string_view name) -> std::optional<engine::weight_view> {
    const auto found = from->find(name);
    if (!found)
      return std::nullopt;
    return engine::weight_view{found->type,
                               {found->shape.begin(), found->shape.end()},
                               found->bytes.data(),
                               storage::drop_pages};
  };
  out.keep_alive = std::move(*files);
  return out;
}

caf::expected<model_text> load_model_text(const model_card& card) {
  auto frontend = engine::load_frontend(card.source.dir, card.source.id.text);
  if (!frontend)
    return frontend.error();
  const auto memory =
      engine::estimate_memory((*frontend)->config, card.source.weight_bytes, card.options);
  return model_text{make_text_side(*frontend, card.options.context_max), *frontend,
                    memory.weights_bytes + memory.kv_bytes + memory.workspace_bytes};
}

} // namespace troupe::actors
