#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include <nlohmann/json.hpp>

#include "cli/bench/result.hpp"

namespace troupe::cli::bench {
namespace {

using testing::HasSubstr;
using testing::Not;

report example() {
  report all;
  all.version = "1.2.3";
  all.host = {"A \"fast\" CPU, model 7", 4, uint64_t{8} << 30, 32 << 20, "madvise", "Linux"};
  all.device = "cpu (portable, 4 threads)";
  all.threads = 4;
  all.reads = {{100 << 20, 50e9, "8 rows side by side"}, {1000 << 20, 20e9, "one row"}};
  all.computes = {{"f32 fma", 100e9}, {"bf16 dot", 400e9}};
  result one;
  one.model = "a,b";
  one.dtype = "bf16";
  one.measure = "decode";
  one.batch = 8;
  one.tokens = 128;
  one.unit = "tokens/s";
  one.value = {80, 75, 81};
  one.reps = 5;
  one.seconds = 0.1;
  one.bytes = 1e9;
  one.flops = 8e9;
  one.set_bytes = 900 << 20;
  one.arithmetic = "bf16";
  all.results.push_back(one);
  return all;
}

TEST(bench_report, a_summary_is_median_and_extremes) {
  EXPECT_EQ(summarize({3}).median, 3);
  EXPECT_EQ(summarize({4, 1}).median, 2.5);
  const auto five = summarize({5, 1, 4, 2, 30});
  EXPECT_EQ(five.median, 4);
  EXPECT_EQ(five.least, 1);
  EXPECT_EQ(five.most, 30);
}

TEST(bench_report, shares_are_of_the_ceiling_that_counts) {
  auto all = example();
  auto reached = shares_of(all, all.results[0]);
  EXPECT_DOUBLE_EQ(reached.read, 0.5); // 10 GB/s of the 20 that a set of that size gives
  EXPECT_DOUBLE_EQ(reached.compute, 0.2);
  EXPECT_DOUBLE_EQ(reached.best(), 0.5);
  all.results[0].set_bytes = 120 << 20;
  EXPECT_DOUBLE_EQ(shares_of(all, all.results[0]).read, 0.2);
  all.computes.push_back({"bf16 tiles", 800e9});
  EXPECT_DOUBLE_EQ(shares_of(all, all.results[0]).compute, 0.1);
  all.computes.resize(1); // no products of bf16: they are made in f32
  EXPECT_DOUBLE_EQ(shares_of(all, all.results[0]).compute, 0.8);
  all.reads.clear();
  all.computes.clear();
  reached = shares_of(all, all.results[0]);
  EXPECT_EQ(reached.best(), 0);
}

TEST(bench_report, json_holds_machine_ceilings_and_results) {
  auto all = example();
  all.results[0].profile = {{"linear [2, 3] bf16", 12, std::chrono::milliseconds{5}, 6e6, 12e6}};
  all.results[0].profile_seconds = 0.008;
  all.results[0].profile_steps = 2;
  const auto read = nlohmann::json::parse(as_json(all));
  EXPECT_EQ(read["troupe"], "1.2.3");
  EXPECT_EQ(read["machine"]["cpu"], "A \"fast\" CPU, model 7");
  EXPECT_EQ(read["machine"]["threads"], 4);
  EXPECT_EQ(read["ceilings"]["read"][1]["bytes_per_second"], 20e9);
  EXPECT_EQ(read["ceilings"]["compute"][1]["name"], "bf16 dot");
  const auto& one = read["results"].at(0);
  EXPECT_EQ(one["median"], 80);
  EXPECT_EQ(one["max"], 81);
  EXPECT_EQ(one["batch"], 8);
  EXPECT_DOUBLE_EQ(one["read_share"], 0.5);
  EXPECT_EQ(one["profile"]["steps"], 2);
  EXPECT_EQ(one["profile"]["ops"][0]["calls"], 12);
  EXPECT_DOUBLE_EQ(one["profile"]["ops"][0]["seconds"], 0.005);
}

TEST(bench_report, csv_quotes_what_must_be_and_has_as_many_fields_everywhere) {
  const auto text = as_csv(example());
  std::istringstream lines{text};
  std::string heading, line, rest;
  std::getline(lines, heading);
  std::getline(lines, line);
  EXPECT_FALSE(std::getline(lines, rest));
  EXPECT_THAT(heading, HasSubstr("model,dtype,measure"));
  EXPECT_TRUE(heading.ends_with('\r') && line.ends_with('\r'));
  EXPECT_THAT(line, HasSubstr("\"A \"\"fast\"\" CPU, model 7\""));
  EXPECT_THAT(line, HasSubstr("\"a,b\",bf16,decode,,8,128,tokens/s,80,75,81,5,0.1,"));
  const auto fields = [](const std::string& of) {
    size_t count = 1;
    bool quoted = false;
    for (const char c : of) {
      quoted = c == '"' ? !quoted : quoted;
      count += c == ',' && !quoted;
    }
    return count;
  };
  EXPECT_EQ(fields(heading), fields(line));
}

TEST(bench_report, the_table_says_what_it_was_taken_on_and_what_disturbed_it) {
  auto all = example();
  auto text = as_table(all, false);
  EXPECT_THAT(text, HasSubstr("machine: A \"fast\" CPU, model 7, 4 cores, 8.0 GiB memory"));
  EXPECT_THAT(text, HasSubstr("cpu (portable, 4 threads)"));
  EXPECT_THAT(text, HasSubstr("decode, batch 8, context 128"));
  EXPECT_THAT(text, HasSubstr("80.0 tokens/s"));
  EXPECT_THAT(text, HasSubstr("75.0..81.0"));
  EXPECT_THAT(text, HasSubstr("50.0 %"));
  EXPECT_THAT(text, Not(HasSubstr("other processes")));
  all.results[0].others = 0.3;
  text = as_table(all, false);
  EXPECT_THAT(text, HasSubstr("30.0 %"));
  EXPECT_THAT(text, HasSubstr("other processes"));
}

TEST(bench_report, a_profile_shows_each_op_and_what_is_between_them) {
  auto all = example();
  all.results[0].profile = {{"attention", 12, std::chrono::milliseconds{6}, 0, 12e6}};
  all.results[0].profile_seconds = 0.008;
  all.results[0].profile_steps = 2;
  const auto text = as_table(all, false);
  EXPECT_THAT(text, testing::ContainsRegex("attention +6.00 +3.00 +75.0 % +- +2.00"));
  EXPECT_THAT(text, testing::ContainsRegex("between the ops +1.00 +25.0 %"));
}

} // namespace
} // namespace troupe::cli::bench
