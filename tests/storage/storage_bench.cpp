#include <sstream>

#include <benchmark/benchmark.h>

#include "storage/catalog.hpp"
#include "storage/checkpoint.hpp"
#include "storage/pipeline/tier_survey.hpp"
#include "storage/safetensors.hpp"
#include "tests/storage/model_files.hpp"

namespace {

using namespace troupe::storage;

void parse_header(benchmark::State& state) {
  std::ostringstream json;
  const auto count = state.range(0);
  for (int64_t i = 0; i < count; ++i)
    json << (i ? ',' : '{') << "\"model.layers." << i << ".mlp.down_proj.weight\":"
         << R"({"dtype":"BF16","shape":[2,4],"data_offsets":[)" << 16 * i << ',' << 16 * i + 16
         << "]}";
  json << '}';
  const auto file =
      test::safetensors(json.str(), std::string(static_cast<size_t>(16 * count), 'x'));
  for (auto _ : state)
    if (!parse_safetensors_header(std::as_bytes(std::span{file}), file.size(), "w"))
      state.SkipWithError("refused");
}
BENCHMARK(parse_header)
    ->Name("storage/safetensors/parse/tensors")
    ->Arg(1000)
    ->Unit(benchmark::kMicrosecond);

void find(benchmark::State& state) {
  const test::temporary_directory root;
  for (int64_t i = 0; i < state.range(0); ++i)
    test::write_model(root.path() / "org" / ("model-" + std::to_string(i)));
  for (auto _ : state)
    if (find_models({root.path()}).models.size() != static_cast<size_t>(state.range(0)))
      state.SkipWithError("models are missing");
}
BENCHMARK(find)->Name("storage/catalog/find/models")->Arg(100)->Unit(benchmark::kMicrosecond);

/// The data is in the page cache: what is measured is the mapping of its pages.
void warm(benchmark::State& state) {
  const test::temporary_directory root;
  const auto bytes = std::to_string(state.range(0));
  test::write_file(root.path() / "model.safetensors",
                   test::safetensors(R"({"w":{"dtype":"U8","shape":[)" + bytes +
                                         R"(],"data_offsets":[0,)" + bytes + "]}}",
                                     std::string(static_cast<size_t>(state.range(0)), 'w')));
  for (auto _ : state) {
    const auto weights = checkpoint::open(root.path());
    if (!weights || (*weights)->warm([](uint64_t, uint64_t) { return true; }))
      state.SkipWithError("failed");
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(warm)
    ->Name("storage/checkpoint/open_and_warm/bytes")
    ->Arg(64 << 20)
    ->Unit(benchmark::kMillisecond);

/// What a node asks before every load: where would its bytes come from? 80 tensors to a GB, and a
/// file of holes, since no weight is read.
void survey_tiers(benchmark::State& state) {
  const test::temporary_directory root;
  constexpr int64_t tensors_per_gigabyte = 80;
  const auto tensors = state.range(0) * tensors_per_gigabyte;
  const auto bytes = 1'000'000'000 / tensors_per_gigabyte;
  std::ostringstream json;
  std::vector<std::string> names;
  for (int64_t i = 0; i < tensors; ++i) {
    names.push_back("w" + std::to_string(i));
    json << (i ? ',' : '{') << '"' << names.back() << R"(":{"dtype":"U8","shape":[)" << bytes
         << R"(],"data_offsets":[)" << i * bytes << ',' << (i + 1) * bytes << "]}";
  }
  json << '}';
  const auto path = root.path() / "model.safetensors";
  const auto header = test::safetensors(json.str());
  test::write_file(path, header);
  std::filesystem::resize_file(path, header.size() + static_cast<uint64_t>(tensors * bytes));
  weight_tiers_options options;
  options.pool.size_bytes = std::filesystem::file_size(path) + (uint64_t{64} << 20);
  const auto tiers = weight_tiers::open(options);
  const auto files = checkpoint::open(root.path());
  if (!tiers || !files)
    return state.SkipWithError("failed");
  for (auto _ : state)
    if (survey(**tiers, **files, names).disk == 0)
      state.SkipWithError("nothing to read");
}
BENCHMARK(survey_tiers)
    ->Name("storage/tier_survey/gigabytes")
    ->Arg(1)
    ->Arg(64)
    ->Unit(benchmark::kMillisecond);

} // namespace

BENCHMARK_MAIN();
