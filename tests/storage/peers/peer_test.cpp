#include "tests/storage/peers/peer_fixture.hpp"

#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "storage/errors.hpp"
#include "storage/pipeline/source_origin.hpp"
#include "storage/store/files.hpp"
#include "storage/store/manifest.hpp"

namespace troupe::storage {
namespace {

using namespace std::chrono_literals;
using test::answer_well;
using test::load_record;
using test::model_on_disk;
using test::open_pool;
using test::scripted_peer;
using test::serving_node;
using test::small_chunk;
using test::tiers_with;

peer_file weights_of(const std::vector<peer_file>& files) {
  return *std::ranges::find(files, true, &peer_file::is_weights);
}

/// A file that a scripted peer pretends to have.
peer_file pretended(const std::string& content) {
  return {.path = "w", .size_bytes = content.size(), .version = "v", .is_weights = true};
}

std::shared_ptr<file_sums> no_sums(uint64_t size) {
  const test::temporary_directory root;
  test::write_file(root.path() / "w", std::string(size, 'x'));
  return ledger{{}, small_chunk}.open({*disk_file::open(root.path() / "w")})->front();
}

/// Loads a whole file from `origin` and returns it, or the error.
caf::expected<std::string> load(const std::shared_ptr<chunk_origin>& origin) {
  const auto pool = open_pool({}, 256);
  load_pipeline pipeline{pool};
  load_record record;
  const auto size = origin->size_bytes();
  pipeline.start({{{origin, no_sums(size)}}, {{0, 0, size}}}, load_priority::demand,
                 record.events());
  if (auto why = record.wait())
    return why;
  return record.file(0);
}

TEST(peer_test, a_model_is_listed_and_its_bytes_come_as_they_are) {
  const model_on_disk model{9 * small_chunk + 5};
  serving_node node;
  node.models->offer("m", model.path());
  peer_links links;
  const auto from = make_peer_source(links, node.at(), "m");
  const auto files = from->list();
  ASSERT_TRUE(files) << describe(files.error());
  ASSERT_EQ(files->size(), 2u);
  EXPECT_EQ(files->at(0).path, "config.json");
  std::string config(files->at(0).size_bytes, '\0');
  EXPECT_FALSE(from->read(files->at(0), 0, std::as_writable_bytes(std::span{config})));
  EXPECT_EQ(config, test::llama_config);

  const auto all = list_at_peer(links, node.at(), "m");
  ASSERT_TRUE(all);
  const auto weights = weights_of(*all);
  EXPECT_EQ(weights.head_bytes, model.content().size() - (9 * small_chunk + 5));
  const auto got = load(make_peer_origin(links, {.at = node.at(), .model = "m", .file = weights}));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == model.content());
  EXPECT_EQ(links.received_bytes(), model.content().size() + config.size());
  // The server counts what it has sent, which may be after it was received.
  for (int i = 0; i < 1000 && node.server->sent_bytes() < links.received_bytes(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  EXPECT_EQ(node.server->sent_bytes(), links.received_bytes());
}

TEST(peer_test, chunks_of_the_pool_are_sent_from_there) {
  const model_on_disk model{6 * small_chunk};
  const auto tiers = tiers_with(64);
  serving_node node{tiers};
  node.models->offer("m", model.path());
  peer_links links;
  const auto weights = weights_of(*list_at_peer(links, node.at(), "m"));
  const auto disk = disk_file::open(model.path() / "model.safetensors");
  load_record record;
  const auto size = (*disk)->size_bytes();
  tiers->pipeline().start(
      {{{make_disk_origin(tiers->reader(), *disk), no_sums(size)}}, {{0, 0, size}}},
      load_priority::demand, record.events());
  ASSERT_FALSE(record.wait());
  const auto hits = tiers->pool().usage().hits;
  const auto got = load(make_peer_origin(links, {.at = node.at(), .model = "m", .file = weights}));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == model.content());
  EXPECT_EQ(tiers->pool().usage().hits - hits, 7u);
}

TEST(peer_test, what_has_not_come_yet_is_sent_when_it_comes) {
  const auto content = test::text_of(3 * small_chunk);
  const auto tiers = tiers_with(64);
  serving_node node{tiers};
  auto file = pretended(content);
  file.chunk_bytes = small_chunk;
  const test::temporary_directory stand_in;
  peer_links links;
  // Asked for before the node has heard of the model at all.
  std::string got(content.size(), '\0');
  std::atomic<int> answered{0};
  for (uint64_t at = 0; at < content.size(); at += small_chunk)
    links.ask(node.at(),
              {.call = peer_call::read,
               .model = "m",
               .file = "w",
               .version = "v",
               .offset = at,
               .length = small_chunk,
               .patience_ms = 60'000},
              std::as_writable_bytes(std::span{got}).subspan(at, small_chunk),
              [&](caf::expected<peer_answer> answer) {
                EXPECT_TRUE(answer) << describe(answer.error());
                ++answered;
                answered.notify_all();
              });
  node.models->set_loading("m", true);
  node.models->offer_received("m", stand_in.path(), {file});
  const auto upstream = std::make_shared<test::scripted_origin>(1, content);
  struct named_as_file final : chunk_origin {
    named_as_file(std::shared_ptr<chunk_origin> from, checksum as)
        : from{std::move(from)}, as{as} {}
    std::string name() const override { return from->name(); }
    uint64_t size_bytes() const override { return from->size_bytes(); }
    checksum key() const override { return as; }
    void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
      from->read(offset, into, std::move(done));
    }
    caf::error check_unchanged() const override { return {}; }
    std::shared_ptr<chunk_origin> from;
    checksum as;
  };
  load_record record;
  tiers->pipeline().start(
      {{{std::make_shared<named_as_file>(upstream, key_of(file)), no_sums(content.size())}},
       {{0, 0, content.size()}}},
      load_priority::demand, record.events());
  upstream->wait_for_reads(3);
  EXPECT_EQ(answered, 0);
  upstream->open();
  for (int now = answered; now < 3; now = answered)
    answered.wait(now);
  EXPECT_TRUE(got == content);
  EXPECT_FALSE(record.wait());
}

TEST(peer_test, a_chunk_that_will_not_come_is_refused) {
  serving_node node{tiers_with(16)};
  const auto file = pretended(std::string(small_chunk, 'x'));
  const test::temporary_directory stand_in;
  node.models->offer_received("m", stand_in.path(), {file});
  peer_links links;
  const auto got = load(make_peer_origin(links, {.at = node.at(), .model = "m", .file = file}));
  ASSERT_FALSE(got);
  EXPECT_TRUE(got.error() == errc::not_found);
  EXPECT_THAT(describe(got.error()), testing::HasSubstr("holds this part of m no more"));
  auto other = file;
  other.version = "w";
  const auto none = load(make_peer_origin(links, {.at = node.at(), .model = "m", .file = other}));
  EXPECT_TRUE(none.error() == errc::changed);
  const auto unknown = load(make_peer_origin(links, {.at = node.at(), .model = "n", .file = file}));
  EXPECT_TRUE(unknown.error() == errc::not_found);
}

TEST(peer_test, damaged_bytes_are_refused_and_fetched_elsewhere) {
  const auto content = test::text_of(8 * small_chunk);
  const scripted_peer damaging{[&](int socket, const peer_request& request) {
    auto part = std::string{content, request.offset, request.length};
    const auto head = frame(peer_answer{.number = request.number,
                                        .payload_bytes = part.size(),
                                        .sum = checksum_of(std::as_bytes(std::span{part}))});
    part[part.size() / 2] ^= 1;
    return !send_all(socket, std::as_bytes(std::span{head}), std::as_bytes(std::span{part}));
  }};
  const scripted_peer good{[&](int socket, const peer_request& request) {
    answer_well(socket, request, content);
    return true;
  }};
  peer_links links;
  const auto bad =
      make_peer_origin(links, {.at = damaging.at(), .model = "m", .file = pretended(content)});
  const auto alone = load(bad);
  ASSERT_FALSE(alone);
  EXPECT_TRUE(alone.error() == errc::corrupted);
  const auto well =
      make_peer_origin(links, {.at = good.at(), .model = "m", .file = pretended(content)});
  for (const auto& both :
       {make_joint_origin({bad, well}), make_routed_origin({bad, well}, [](uint64_t) {
          return std::vector<uint32_t>{0, 1};
        })}) {
    const auto got = load(both);
    ASSERT_TRUE(got) << describe(got.error());
    EXPECT_TRUE(*got == content);
  }
}

TEST(peer_test, a_peer_with_other_bytes_than_are_recorded_is_lost_and_nothing_else) {
  const auto content = test::text_of(4 * small_chunk), other = test::text_of(4 * small_chunk, 2);
  const auto serve = [](const std::string& what) {
    return [&what](int socket, const peer_request& request) {
      answer_well(socket, request, what);
      return true;
    };
  };
  const scripted_peer wrong{serve(other)}, right{serve(content)};
  peer_links links;
  const auto origin = [&](const scripted_peer& at) {
    return make_peer_origin(
        links,
        {.at = at.at(), .model = "m", .file = pretended(content), .expected = [&](uint64_t offset) {
           const auto part = std::as_bytes(std::span{content});
           return std::optional{checksum_of(part.subspan(offset, small_chunk))};
         }});
  };
  EXPECT_TRUE(load(origin(wrong)).error() == errc::changed);
  const auto got = load(make_joint_origin({origin(wrong), origin(right)}));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == content);
}

/// How a peer may go in the middle of a load.
struct way_to_go {
  const char* name;
  scripted_peer::behaviour last;
  const char* says;
};
class lost_peer_test : public testing::TestWithParam<way_to_go> {};

TEST_P(lost_peer_test, costs_what_it_owed_and_no_more) {
  const auto content = test::text_of(32 * small_chunk);
  std::atomic<int> left{5};
  const scripted_peer dying{[&](int socket, const peer_request& request) {
    const bool last = --left < 0;
    left.notify_all();
    if (last)
      return GetParam().last(socket, request);
    answer_well(socket, request, content);
    return true;
  }};
  const scripted_peer good{[&](int socket, const peer_request& request) {
    for (int now = left; now >= 0; now = left) // so that the other is asked often enough
      left.wait(now);
    answer_well(socket, request, content);
    return true;
  }};
  peer_links links{{.streams = 1, .stall = 300ms}};
  const auto origin = [&](const scripted_peer& at) {
    return make_peer_origin(links, {.at = at.at(), .model = "m", .file = pretended(content)});
  };
  const auto got = load(make_joint_origin({origin(dying), origin(good)}));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == content);
  EXPECT_LT(left, 0);
  const auto alone = load(origin(dying));
  ASSERT_FALSE(alone);
  EXPECT_THAT(describe(alone.error()), testing::HasSubstr(GetParam().says));
  EXPECT_THAT(describe(alone.error()), testing::HasSubstr(to_string(dying.at())));
}

bool close_it(int, const peer_request&) { return false; }
bool cut_it(int socket, const peer_request& request) {
  const auto head = frame(peer_answer{.number = request.number, .payload_bytes = request.length});
  (void)send_all(socket, std::as_bytes(std::span{head}).first(head.size() / 2));
  return false;
}
bool cut_payload(int socket, const peer_request& request) {
  const auto head = frame(peer_answer{.number = request.number, .payload_bytes = request.length});
  const std::vector<std::byte> half(request.length / 2);
  (void)send_all(socket, std::as_bytes(std::span{head}), half);
  return false;
}
bool talk_nonsense(int socket, const peer_request&) {
  const std::string text = "HTTP/1.1 400 Bad Request\r\n\r\n";
  (void)send_all(socket, std::as_bytes(std::span{text}));
  return true;
}
bool send_less(int socket, const peer_request& request) {
  const auto head = frame(peer_answer{.number = request.number, .payload_bytes = 1});
  (void)send_all(socket, std::as_bytes(std::span{head}), std::as_bytes(std::span{"x", 1}));
  return true;
}
bool say_nothing(int, const peer_request&) { return true; }

INSTANTIATE_TEST_SUITE_P(
    all, lost_peer_test,
    testing::Values(way_to_go{"closed", close_it, "closed"}, way_to_go{"cut", cut_it, "closed"},
                    way_to_go{"cut_payload", cut_payload, "closed"},
                    way_to_go{"nonsense", talk_nonsense, "does not begin as one"},
                    way_to_go{"less", send_less, "another length"},
                    way_to_go{"stalled", say_nothing, "nothing came for 300 ms"}),
    [](const auto& info) { return std::string{info.param.name}; });

TEST(peer_test, a_real_peer_that_ends_in_the_middle_is_made_up_for) {
  const model_on_disk model{64 * small_chunk};
  auto first = std::make_unique<serving_node>(), second = std::make_unique<serving_node>();
  first->models->offer("m", model.path());
  second->models->offer("m", model.path());
  peer_links links;
  const auto weights = weights_of(*list_at_peer(links, first->at(), "m"));
  const auto theirs = weights_of(*list_at_peer(links, second->at(), "m"));
  const auto pool = open_pool({}, 256);
  load_pipeline pipeline{pool, {.chunks_in_flight = 4, .workers = 2}};
  load_record record;
  pipeline.start(
      {{{make_joint_origin(
             {make_peer_origin(links, {.at = first->at(), .model = "m", .file = weights}),
              make_peer_origin(links, {.at = second->at(), .model = "m", .file = theirs})}),
         no_sums(weights.size_bytes)}},
       {{0, 0, weights.size_bytes}}},
      load_priority::demand, record.events());
  record.wait_for_chunks(8);
  first.reset();
  ASSERT_FALSE(record.wait());
  EXPECT_TRUE(record.file(0) == model.content());
}

TEST(peer_test, another_version_of_the_data_plane_is_named) {
  const scripted_peer newer{test::scripted_peer::behaviour{say_nothing}, peer_protocol + 1};
  peer_links links;
  const auto files = list_at_peer(links, newer.at(), "m");
  ASSERT_FALSE(files);
  EXPECT_THAT(describe(files.error()), testing::HasSubstr("run one version of troupe on both"));
}

TEST(peer_test, nobody_there_is_an_error_that_names_the_address) {
  uint16_t free_port = 0;
  {
    const auto taken = listen_at(test::here(0));
    free_port = port_of(taken->get());
  }
  peer_links links;
  const auto files = list_at_peer(links, test::here(free_port), "m");
  ASSERT_FALSE(files);
  EXPECT_TRUE(files.error() == errc::unavailable);
  EXPECT_THAT(describe(files.error()),
              testing::HasSubstr("127.0.0.1:" + std::to_string(free_port)));
}

TEST(peer_test, a_limited_sender_sends_the_same_bytes) {
  const model_on_disk model{4 * small_chunk};
  serving_node node{{}, 50'000'000};
  node.models->offer("m", model.path());
  peer_links links;
  const auto weights = weights_of(*list_at_peer(links, node.at(), "m"));
  const auto got = load(make_peer_origin(links, {.at = node.at(), .model = "m", .file = weights}));
  ASSERT_TRUE(got) << describe(got.error());
  EXPECT_TRUE(*got == model.content());
}

TEST(peer_test, what_a_server_gets_that_is_no_request_ends_that_connection_alone) {
  const model_on_disk model{2 * small_chunk};
  serving_node node;
  node.models->offer("m", model.path());
  for (const std::string text : {"GET / HTTP/1.1\r\n\r\n", "TPD1\xff\xff\xff\x7f", "TPD1\x08"}) {
    wake_event never;
    const auto socket = connect_to(node.at(), 5s, never);
    ASSERT_TRUE(socket);
    ASSERT_FALSE(send_all(socket->get(), std::as_bytes(std::span{text})));
    ::shutdown(socket->get(), SHUT_WR);
    std::array<std::byte, 4096> sink{};
    EXPECT_TRUE(receive_all(socket->get(), sink, 60s)); // its hello, then the end
  }
  peer_links links;
  EXPECT_TRUE(list_at_peer(links, node.at(), "m"));
}

/// Writes down the checksums of all chunks of a model's weights, as a load does.
void record_sums(const model_on_disk& model, const std::filesystem::path& sums) {
  const auto chunk = chunk_pool_options{}.chunk_bytes;
  const auto file = disk_file::open(model.path() / "model.safetensors");
  const auto record = ledger{sums, chunk}.open({*file})->front();
  const auto bytes = std::as_bytes(std::span{model.content()});
  for (uint64_t at = 0; at < bytes.size(); at += chunk)
    ASSERT_FALSE(record->check(
        at, checksum_of(bytes.subspan(at, std::min<uint64_t>(chunk, bytes.size() - at)))));
  ASSERT_FALSE(record->save(true));
}

TEST(peer_test, versions_follow_the_bytes_once_all_are_known) {
  const model_on_disk model{3 * small_chunk}, same{3 * small_chunk}, other{3 * small_chunk, 7};
  const test::temporary_directory sums;
  const auto version = [&](const model_on_disk& of, const std::string& node) {
    shared_models models{{}, sums.path(), node};
    models.offer("m", of.path());
    const auto files = models.list("m");
    EXPECT_TRUE(files);
    return weights_of(*files).version;
  };
  EXPECT_NE(version(model, "a"), version(model, "b")); // nothing is recorded
  for (const auto* one : {&model, &same, &other})
    record_sums(*one, sums.path());
  EXPECT_EQ(version(model, "a"), version(same, "b"));
  EXPECT_NE(version(model, "a"), version(other, "b"));
}

TEST(peer_test, damage_of_a_recorded_chunk_is_not_sent_in_any_part_of_it) {
  const model_on_disk model{chunk_pool_options{}.chunk_bytes + 1000};
  const test::temporary_directory sums;
  record_sums(model, sums.path());
  const auto weights = model.path() / "model.safetensors";
  const auto before = std::filesystem::last_write_time(weights);
  auto damaged = model.content();
  damaged[5000] ^= 1;
  test::write_file(weights, damaged);
  std::filesystem::last_write_time(weights, before);
  const serving_node node{{}, 0, sums.path()};
  node.models->offer("m", model.path());
  peer_links links;
  const auto from = make_peer_source(links, node.at(), "m");
  const auto file = from->stat("model.safetensors");
  ASSERT_TRUE(file) << describe(file.error());
  std::string got(500, '\0');
  const auto into = std::as_writable_bytes(std::span{got});
  EXPECT_FALSE(from->read(*file, chunk_pool_options{}.chunk_bytes + 7, into));
  EXPECT_EQ(got, model.content().substr(chunk_pool_options{}.chunk_bytes + 7, 500));
  EXPECT_EQ(from->read(*file, 4800, into), errc::corrupted);
}

TEST(peer_test, a_fetched_file_has_its_address_as_long_as_nobody_writes_to_it) {
  const model_on_disk model{3 * small_chunk};
  const auto weights = model.path() / "model.safetensors";
  const source_file fetched{.path = "model.safetensors",
                            .size_bytes = model.content().size(),
                            .version = "\"1\"",
                            .sha256 = {},
                            .addressed = "https://host/m \"1\""};
  ASSERT_FALSE(
      write_manifest(model.path(), {.source = "https://host/m",
                                    .files = {{fetched.path, fetched}},
                                    .modified_ns = {{fetched.path, *last_write_ns(weights)}}}));
  const serving_node node;
  node.models->offer("m", model.path());
  peer_links links;
  const auto from = make_peer_source(links, node.at(), "m");
  EXPECT_EQ(from->stat(fetched.path)->addressed, fetched.addressed);
  auto common = fetched;
  common.version = common_version(fetched);
  std::array<std::byte, 10> into{};
  EXPECT_FALSE(from->read(common, 0, into));
  test::write_file(weights, model.content());
  node.models->offer("m", model.path());
  EXPECT_EQ(from->stat(fetched.path)->addressed, "");
  EXPECT_EQ(from->read(common, 0, into), errc::changed);
}

} // namespace
} // namespace troupe::storage
