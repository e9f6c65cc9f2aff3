// Replays a corpus and seeded mutations of it through LLVMFuzzerTestOneInput, for compilers
// without libFuzzer: every CI run feeds each parser the same garbage, and a crash names its seed.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using bytes = std::vector<uint8_t>;

std::vector<bytes> read_corpus(const std::string& where) {
  std::vector<bytes> corpus;
  std::error_code ignored;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(where, ignored))
    if (entry.is_regular_file())
      files.push_back(entry.path());
  std::sort(files.begin(), files.end()); // the same order everywhere, so a seed replays
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  if (corpus.empty())
    corpus.emplace_back();
  return corpus;
}

bytes mutate(const std::vector<bytes>& corpus, std::mt19937_64& random) {
  bytes out = corpus[random() % corpus.size()];
  const auto edits = 1 + random() % 8;
  for (uint64_t i = 0; i < edits; ++i) {
    const size_t at = out.empty() ? 0 : random() % out.size();
    switch (random() % 6) {
    case 0: // flip a bit
      if (!out.empty())
        out[at] ^= static_cast<uint8_t>(1u << (random() % 8));
      break;
    case 1: // replace a byte by one that parsers treat specially
      if (!out.empty())
        out[at] = static_cast<uint8_t>("{}[]\",:0-9.\\u\xff\x00%#"[random() % 18]);
      break;
    case 2: // cut the tail
      out.resize(at);
      break;
    case 3: { // repeat a piece
      const size_t length = std::min<size_t>(out.size() - at, random() % 64);
      const bytes piece(out.begin() + at, out.begin() + at + length);
      out.insert(out.begin() + at, piece.begin(), piece.end());
      break;
    }
    case 4: // remove a piece
      out.erase(out.begin() + at,
                out.begin() + at + std::min<size_t>(out.size() - at, random() % 32));
      break;
    default: { // splice in a piece of another input
      const bytes& other = corpus[random() % corpus.size()];
      if (other.empty())
        break;
      const size_t from = random() % other.size();
      const size_t length = std::min<size_t>(other.size() - from, random() % 128);
      out.insert(out.begin() + at, other.begin() + from, other.begin() + from + length);
    }
    }
  }
  return out;
}

} // namespace

int main(int argc, char** argv) {
  uint64_t runs = 20000, seed = 1;
  std::vector<std::string> inputs;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--runs" && i + 1 < argc)
      runs = std::strtoull(argv[++i], nullptr, 10);
    else if (arg == "--seed" && i + 1 < argc)
      seed = std::strtoull(argv[++i], nullptr, 10);
    else
      inputs.push_back(arg);
  }
  std::vector<bytes> corpus;
  for (const auto& where : inputs)
    for (auto& one : read_corpus(where))
      corpus.push_back(std::move(one));
  if (corpus.empty())
    corpus.emplace_back();
  for (const auto& one : corpus)
    LLVMFuzzerTestOneInput(one.data(), one.size());
  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < runs; ++i) {
    const bytes input = mutate(corpus, random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu corpus files and %llu mutations (seed %llu): no crash\n", corpus.size(),
              static_cast<unsigned long long>(runs), static_cast<unsigned long long>(seed));
}
