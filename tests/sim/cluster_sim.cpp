// Simulates a cluster from a seed: workers die, join and join anew, models are loaded, evicted,
// broken and mended, requests come and are cancelled, and messages are handled in any order.
// Whatever happens, the text of every stream is a beginning of the text of an undisturbed run, and
// all of it if the request ends well; in the end nothing is left over.
//
// usage: cluster_sim [--seed N] [--runs N] [--verbose]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "tests/actors/cluster_fixture.hpp"

namespace {

using namespace troupe::actors;
using namespace troupe::actors::testing;
using namespace std::chrono_literals;

struct stream {
  std::shared_ptr<recorder> got;
  std::vector<std::string> expected; // per choice
  bool cancelled = false;
};

struct simulation {
  explicit simulation(uint64_t seed) : random{seed}, nodes{options()} {}

  cluster_options options() {
    cluster_options out;
    out.models = {{"a", 60}, {"b", 60}, {"c", 30}};
    out.sequences_max = 1 + random() % 4;
    out.queue_max = 20;
    out.load_time = std::chrono::milliseconds{10 + random() % 500};
    out.keep_alive = std::chrono::milliseconds{random() % 3000};
    return out;
  }

  size_t below(size_t n) { return random() % n; }
  bool chance(size_t percent) { return below(100) < percent; }

  void submit() {
    static const char* const models[] = {"a", "b", "c"};
    const auto prompt = "prompt " + std::to_string(streams.size());
    const auto tokens = static_cast<uint32_t>(1 + below(40));
    const auto seed = random();
    auto request = make_request(models[below(3)], prompt, tokens, seed);
    request.n = static_cast<uint32_t>(1 + below(3));
    stream x;
    for (uint32_t i = 0; i < request.n; ++i)
      x.expected.push_back(expected_text(prompt, seed + i, tokens));
    x.got = nodes.submit(std::move(request));
    streams.push_back(std::move(x));
  }

  void disturb() {
    if (alive.size() < 3 && chance(20))
      alive.push_back(nodes.add_worker(100));
    if (!alive.empty() && chance(8)) {
      const auto at = below(alive.size());
      nodes.kill_worker(alive[at]);
      alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(at));
      ++kills;
    }
    if (!alive.empty() && chance(5))
      nodes.rejoin_worker(alive[below(alive.size())]);
    if (!alive.empty() && chance(2))
      nodes.drain_worker(alive[below(alive.size())]);
    if (chance(50))
      submit();
    if (!streams.empty() && chance(10)) {
      const auto at = below(streams.size());
      streams[at].cancelled = true;
      if (chance(80))
        nodes.cancel(at);
      else
        nodes.crash_invocation(at);
    }
    if (chance(3))
      nodes.break_model("c", chance(50) ? "disk on fire" : "");
    if (chance(3))
      nodes.unload(chance(50) ? "a" : "b");
    if (!streams.empty() && chance(5)) // a worker that does not know it was given up
      nodes.forge_tokens(below(streams.size()), 0, static_cast<uint32_t>(below(3)), "XYZ");
  }

  void shuffle(size_t messages) {
    for (size_t i = 0; i < messages; ++i)
      if (!nodes.run_any([this](size_t n) { return chance(70) ? 0 : below(n); }))
        return;
  }

  bool check(const char* when) {
    for (size_t i = 0; i < streams.size(); ++i) {
      const auto& x = streams[i];
      for (const auto& [choice, text] : x.got->text)
        if (!x.expected[choice].starts_with(text))
          return fault(when, i, "text \"" + text + "\" instead of \"" + x.expected[choice] + "\"");
      if (x.got->calls_after_end != 0)
        return fault(when, i, "was called after its end");
      if (x.got->used)
        for (uint32_t c = 0; c < x.expected.size(); ++c)
          if (x.got->text[c] != x.expected[c] || !x.got->finished.contains(c))
            return fault(when, i, "ended well without its whole text");
    }
    return true;
  }

  bool fault(const char* when, size_t i, const std::string& what) {
    std::printf("%s: stream %zu %s\n", when, i, what.c_str());
    return false;
  }

  void describe(size_t i) {
    for (const auto* model : {"a", "b", "c"}) {
      const auto x = nodes.status(model);
      std::printf("  %s %s on %s: %u running, %u waiting, %llu bytes\n", model, x.state.c_str(),
                  x.device.c_str(), x.active, x.queued,
                  static_cast<unsigned long long>(x.resident_bytes));
    }
    for (const auto& [choice, text] : streams[i].got->text)
      std::printf("  choice %u has %zu of %zu characters\n", choice, text.size(),
                  streams[i].expected[choice].size());
    for (const auto& x : nodes.actors())
      std::printf("  %s: %s, %s\n", x.type.c_str(), x.state.c_str(), x.detail.c_str());
  }

  bool settle() {
    nodes.break_model("c", "");
    alive.push_back(nodes.add_worker(100));
    for (int i = 0; i < 400; ++i)
      nodes.advance(250ms);
    for (size_t i = 0; i < streams.size(); ++i)
      if (!streams[i].cancelled && !streams[i].got->ended())
        return describe(i), fault("at the end", i, "never ended");
    if (nodes.sequences_held() != 0)
      return fault("at the end", nodes.sequences_held(), "sequences are left in engines");
    if (nodes.running_invocations() != 0)
      return fault("at the end", nodes.running_invocations(), "invocations are left");
    for (const auto* model : {"a", "b", "c"}) {
      const auto status = nodes.status(model);
      if (status.active != 0 || status.queued != 0)
        return fault("at the end", status.active,
                     std::string{"sequences are counted for "} + model);
    }
    return true;
  }

  bool run() {
    for (int round = 0; round < 150; ++round) {
      disturb();
      shuffle(below(60));
      if (chance(30))
        nodes.advance_clock(std::chrono::milliseconds{below(200)});
      if (!check("on the way"))
        return false;
    }
    return settle() && check("at the end");
  }

  std::mt19937_64 random;
  cluster nodes;
  std::vector<stream> streams;
  std::vector<size_t> alive;
  size_t kills = 0;
};

} // namespace

int main(int argc, char** argv) {
  uint64_t seed = 1, runs = 1;
  bool verbose = false;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--seed") && i + 1 < argc)
      seed = std::strtoull(argv[++i], nullptr, 10);
    else if (!std::strcmp(argv[i], "--runs") && i + 1 < argc)
      runs = std::strtoull(argv[++i], nullptr, 10);
    else if (!std::strcmp(argv[i], "--verbose"))
      verbose = true;
  }
  size_t well = 0, failed = 0, kills = 0;
  for (uint64_t i = 0; i < runs; ++i) {
    simulation x{seed + i};
    const bool good = x.run();
    if (!good) {
      std::printf("FAILED with --seed %llu\n", static_cast<unsigned long long>(seed + i));
      return 1;
    }
    for (const auto& stream : x.streams) {
      well += stream.got->used.has_value();
      failed += stream.got->failed.has_value();
      if (verbose && stream.got->failed)
        std::printf("  %s\n", stream.got->failed->message.c_str());
    }
    kills += x.kills;
  }
  std::printf(
      "seeds %llu to %llu: %zu streams ended well and %zu with an error, %zu workers killed\n",
      static_cast<unsigned long long>(seed), static_cast<unsigned long long>(seed + runs - 1), well,
      failed, kills);
  return well > failed ? 0 : 1;
}
