#include "storage/pipeline/job_threads.hpp"

#include <atomic>
#include <future>
#include <memory>
#include <string>

#include <gtest/gtest.h>

namespace troupe::storage {
namespace {

TEST(job_threads_test, one_thread_works_in_the_order_of_posting_and_ends_what_it_was_given) {
  std::string order;
  {
    job_threads threads{1};
    for (char c = 'a'; c <= 'z'; ++c)
      threads.post([&order, c] { order += c; });
  }
  EXPECT_EQ(order, "abcdefghijklmnopqrstuvwxyz");
}

TEST(job_threads_test, urgent_jobs_go_first) {
  std::string order;
  std::promise<void> go;
  {
    job_threads threads{1};
    threads.post([going = go.get_future().share()] { going.wait(); });
    for (char c = 'a'; c <= 'c'; ++c) {
      threads.post([&order, c] { order += c; });
      threads.post_urgent([&order, c] { order += static_cast<char>(c - 'a' + 'A'); });
    }
    go.set_value();
  }
  EXPECT_EQ(order.substr(order.find('A')), "ABCabc");
}

TEST(job_threads_test, a_job_may_post_another_one) {
  std::promise<void> done;
  job_threads threads{2};
  threads.post([&] { threads.post([&] { threads.post([&] { done.set_value(); }); }); });
  done.get_future().wait();
}

// Whoever waits for a job may destroy the threads as soon as it ran, though the thread that posted
// it has not come back from `post` yet: a pipeline goes away like that while its disk reader still
// hands over the last chunk. The thread sanitizer sees every access that comes too late, whatever
// the timing.
TEST(job_threads_test, may_go_away_while_somebody_is_still_in_post) {
  std::atomic<int> done{0};
  job_threads posting{1};
  for (int round = 0; round < 300; ++round) {
    done = 0;
    auto threads = std::make_unique<job_threads>(2);
    for (int i = 0; i < 4; ++i)
      posting.post([&done, to = threads.get()] {
        to->post([&done] {
          ++done;
          done.notify_one();
        });
      });
    for (int seen = 0; seen != 4; seen = done)
      done.wait(seen);
    threads.reset();
  }
}

} // namespace
} // namespace troupe::storage
