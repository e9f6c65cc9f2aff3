#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "actors/model_files.hpp"
#include "cli/bench/machine.hpp"
#include "cli/bench/measure.hpp"
#include "cli/bench/random_weights.hpp"
#include "cli/bench/shapes.hpp"
#include "config/units.hpp"
#include "engine/engine.hpp"
#include "engine/frontend/frontend.hpp"
#include "engine/model/weights.hpp"
#include "storage/errors.hpp"

namespace troupe::cli::bench {
namespace {

namespace fs = std::filesystem;
using clock = std::chrono::steady_clock;

caf::error cannot(const std::string& what, const fs::path& path, const std::string& why) {
  return caf::make_error(storage::errc::unreadable, what + " " + path.string() + ": " + why);
}

/// A folder that is removed with everything in it.
class scratch_folder {
public:
  explicit scratch_folder(const std::string& below) {
    std::error_code ignored;
    const auto parent = below.empty() ? fs::temp_directory_path(ignored) : fs::path{below};
    auto name = (parent / "troupe-bench-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr)
      path_ = name;
  }
  ~scratch_folder() {
    std::error_code ignored;
    if (!path_.empty())
      fs::remove_all(path_, ignored);
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  const fs::path& path() const { return path_; }

private:
  fs::path path_;
};

/// The header of a safetensors file: its length in eight bytes, then JSON padded to eight.
std::string safetensors_header(const std::vector<engine::weight_spec>& plan, dtype type) {
  nlohmann::ordered_json header;
  uint64_t at = 0;
  for (const auto& spec : plan) {
    uint64_t count = 1;
    for (const auto side : spec.shape)
      count *= static_cast<uint64_t>(side);
    const auto end = at + bytes_of(type, count);
    header[spec.name] = {{"dtype", type == dtype::f32   ? "F32"
                                   : type == dtype::f16 ? "F16"
                                                        : "BF16"},
                         {"shape", spec.shape},
                         {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i)
    out[i] = static_cast<char>(text.size() >> (8 * i));
  return out + text;
}

caf::error write_checkpoint(const fs::path& dir, const shape& of, dtype type, unsigned threads,
                            const std::atomic<bool>& stop) {
  const auto text = config_json(of, type);
  const auto config = engine::parse_model_config(text, of.name);
  if (!config)
    return config.error();
  auto weights = random_weights::create(*config, type, threads);
  if (!weights)
    return weights.error();
  std::error_code code;
  const auto space = fs::space(dir, code);
  const auto needed = (*weights)->size_bytes();
  if (!code && space.available < needed + (uint64_t{64} << 20))
    return cannot("writing a checkpoint of " + config::format_size_rounded(needed) + " below", dir,
                  "only " + config::format_size_rounded(space.available) +
                      " are free; name another folder with --scratch");
  std::ofstream{dir / "config.json"} << text;
  const auto file = dir / "model.safetensors";
  std::ofstream out{file, std::ios::binary};
  const auto plan = engine::weight_plan(*config);
  out << safetensors_header(plan, type);
  for (const auto& spec : plan) {
    if (stop)
      return {};
    const auto view = (*weights)->find(spec.name);
    uint64_t count = 1;
    for (const auto side : spec.shape)
      count *= static_cast<uint64_t>(side);
    const auto bytes = bytes_of(type, count);
    out.write(static_cast<const char*>(view->data), static_cast<std::streamsize>(bytes));
    if (view->drop)
      view->drop(spec.shape[0]);
  }
  out.flush();
  return out ? caf::error{} : cannot("writing", file, "the disk may be full");
}

void evict_file(const fs::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return;
  fdatasync(file);
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  close(file);
}

/// Writes a file, or those of a directory, to the disk and takes them out of the page cache, as far
/// as the kernel obeys.
void evict(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored))
    return evict_file(path);
  for (const auto& entry : fs::directory_iterator{path, ignored})
    evict_file(entry.path());
}

struct load_times {
  double seconds = 0;
  uint64_t bytes = 0;
};

/// Files to first token.
caf::expected<load_times> load_once(const fs::path& dir, const engine::engine_options& how,
                                    gpu::device& device) {
  load_times out;
  const auto begun = clock::now();
  const auto opened =
      actors::open_model_files({{"bench"}, dir.string(), how}, [](auto, auto) { return true; });
  if (opened.why)
    return opened.why;
  auto model =
      engine::engine::create(*opened.config, opened.lookup, opened.keep_alive, device, how);
  if (!model)
    return model.error();
  engine::sequence_request request;
  request.tokens = {1};
  request.prompt_size = 1;
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 1;
  if (auto why = (*model)->add(request))
    return why;
  if (const auto events = (*model)->step(); !events)
    return events.error();
  out.seconds = std::chrono::duration<double>(clock::now() - begun).count();
  out.bytes = opened.weight_bytes;
  return out;
}

} // namespace

caf::expected<std::vector<result>> measure_load(const options& given, const model_choice& model,
                                                const std::string& dtype,
                                                const std::atomic<bool>& stop) {
  std::vector<result> out;
  std::optional<scratch_folder> scratch;
  fs::path dir = model.path;
  if (model.path.empty()) {
    scratch.emplace(given.scratch);
    dir = scratch->path();
    if (dir.empty())
      return cannot("making a folder below", given.scratch.empty() ? "/tmp" : given.scratch,
                    "name one that can be written with --scratch");
    if (auto why = write_checkpoint(dir, *find_shape(model.title), stored_type(dtype),
                                    given.threads, stop))
      return why;
  }
  const auto device = make_device(given);
  if (!device)
    return device.error();
  engine::engine_options how;
  how.quantize = quantization_of(dtype);
  how.kv_bytes = uint64_t{64} << 20;
  for (const bool cold : {true, false}) {
    std::vector<double> seconds;
    const neighbours others;
    load_times last;
    for (uint32_t rep = 0; rep < given.reps; ++rep) {
      if (stop)
        return out;
      if (cold)
        evict(dir);
      const auto took = load_once(dir, how, **device);
      if (!took)
        return took.error();
      last = *took;
      seconds.push_back(took->seconds);
    }
    result one;
    one.model = model.title;
    one.dtype = dtype.empty() ? "as it is" : dtype;
    one.measure = "load";
    one.variant = cold ? "disk" : "page cache";
    one.unit = "s";
    one.reps = given.reps;
    one.value = summarize(std::move(seconds));
    one.seconds = one.value.median;
    one.bytes = static_cast<double>(last.bytes);
    one.others = others.share();
    out.push_back(std::move(one));
  }
  return out;
}

} // namespace troupe::cli::bench
