#include "storage/sources/location.hpp"

#include <gtest/gtest.h>

#include "storage/errors.hpp"

namespace troupe::storage {
namespace {

TEST(location, takes_references_apart) {
  const auto hub = parse_location("hf://Qwen/Qwen2.5-0.5B@refs/pr/1");
  ASSERT_TRUE(hub);
  EXPECT_EQ(hub->kind, location_kind::hub);
  EXPECT_EQ(hub->repository, "Qwen/Qwen2.5-0.5B");
  EXPECT_EQ(hub->revision, "refs/pr/1");
  EXPECT_EQ(hub->model_name, "Qwen/Qwen2.5-0.5B");
  EXPECT_EQ(parse_location("hf://gpt2")->revision, "main");
  const auto s3 = parse_location("s3://my-bucket/a/b c/?region=eu-west-3&addressing=virtual");
  ASSERT_TRUE(s3) << describe(s3.error());
  EXPECT_EQ(s3->bucket, "my-bucket");
  EXPECT_EQ(s3->prefix, "a/b c");
  EXPECT_EQ(s3->region, "eu-west-3");
  EXPECT_EQ(s3->addressing, "virtual");
  EXPECT_EQ(s3->model_name, "b c");
  const auto http = parse_location("HTTPS://joe:se%40cret@Example.com:8443/models/tiny/#part");
  ASSERT_TRUE(http) << describe(http.error());
  EXPECT_EQ(http->kind, location_kind::http);
  EXPECT_EQ(http->credentials, "joe:se@cret");
  EXPECT_EQ(http->text.find("se"), std::string::npos) << "no secrets in " << http->text;
  EXPECT_EQ(http->model_name, "tiny");
  const auto file = parse_location("file:///srv/my%20models/x/");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->path, "/srv/my models/x/");
  EXPECT_EQ(file->model_name, "x");
  EXPECT_EQ(parse_location("../models/x")->path, "../models/x");
}

TEST(location, says_which_gguf_model_of_a_repository_is_meant) {
  const auto tag = parse_location("hf://org/n-GGUF:q4_k_m");
  ASSERT_TRUE(tag) << describe(tag.error());
  EXPECT_EQ(tag->repository, "org/n-GGUF");
  EXPECT_EQ(tag->gguf.tag, "Q4_K_M");
  EXPECT_EQ(tag->text, "hf://org/n-GGUF:Q4_K_M");
  EXPECT_EQ(tag->model_name, "org/n-GGUF:Q4_K_M");
  const auto revised = parse_location("hf://org/n@refs/pr/1:UD-Q4_K_XL");
  ASSERT_TRUE(revised) << describe(revised.error());
  EXPECT_EQ(revised->revision, "refs/pr/1");
  EXPECT_EQ(revised->gguf.tag, "UD-Q4_K_XL");
  const auto latest = parse_location("hf://org/n:latest");
  ASSERT_TRUE(latest);
  EXPECT_EQ(latest->text, "hf://org/n");
  struct named {
    const char *text, *canonical, *repository, *revision, *file, *name;
  };
  for (const auto& one :
       {named{"hf://o/n/m.gguf", "hf://o/n/m.gguf", "o/n", "main", "m.gguf", "o/n/m"},
        named{"hf://o/n:m.gguf", "hf://o/n/m.gguf", "o/n", "main", "m.gguf", "o/n/m"},
        named{"hf://o/n@v1/Q8/m-00001-of-00002.gguf", "hf://o/n@v1/Q8/m-00001-of-00002.gguf", "o/n",
              "v1", "Q8/m-00001-of-00002.gguf", "o/n/Q8/m"},
        named{"hf://o/n@refs/pr/2/m.gguf", "hf://o/n@refs/pr/2/m.gguf", "o/n", "refs/pr/2",
              "m.gguf", "o/n/m"},
        named{"hf://o/n@a/b:m.gguf", "hf://o/n@a/b:m.gguf", "o/n", "a/b", "m.gguf", "o/n/m"},
        named{"hf://gpt2@main/m.gguf", "hf://gpt2:m.gguf", "gpt2", "main", "m.gguf", "gpt2/m"},
        named{"https://huggingface.co/o/n/resolve/v2/d/m%20x.gguf?download=true",
              "hf://o/n@v2/d/m x.gguf", "o/n", "v2", "d/m x.gguf", "o/n/d/m x"},
        named{"https://huggingface.co/o/n/blob/main/m.gguf", "hf://o/n/m.gguf", "o/n", "main",
              "m.gguf", "o/n/m"},
        named{"hf.co/o/n:m.gguf", "hf://o/n/m.gguf", "o/n", "main", "m.gguf", "o/n/m"}}) {
    const auto got = parse_location(one.text);
    ASSERT_TRUE(got) << one.text << ": " << describe(got.error());
    EXPECT_EQ(got->text, one.canonical);
    EXPECT_EQ(got->repository, one.repository) << one.text;
    EXPECT_EQ(got->revision, one.revision) << one.text;
    EXPECT_EQ(got->gguf.file, one.file) << one.text;
    EXPECT_EQ(got->model_name, one.name) << one.text;
  }
  const auto s3 = parse_location("s3://bucket/a/m-Q8_0.gguf?region=x");
  ASSERT_TRUE(s3);
  EXPECT_EQ(s3->prefix, "a");
  EXPECT_EQ(s3->gguf.file, "m-Q8_0.gguf");
  EXPECT_EQ(s3->model_name, "m-Q8_0");
  EXPECT_TRUE(is_url("hf.co/o/n:Q8_0"));
  EXPECT_EQ(parse_location("hf://o/n:latest:LATEST")->text, "hf://o/n");
  EXPECT_EQ(parse_location("https://huggingface.co/o/n/x/..")->text, "hf://o/n");
  EXPECT_EQ(parse_location("a/../hf.co/o")->text, "./hf.co/o");
  EXPECT_FALSE(parse_location("hf.co/"));
  EXPECT_EQ(parse_location("https://huggingface.co/o/n")->text, "hf://o/n");
  EXPECT_EQ(parse_location("https://huggingface.co/o/n/tree/v1")->text, "hf://o/n@v1");
  EXPECT_EQ(parse_location("https://huggingface.co/o/n/resolve/main/x.bin")->kind,
            location_kind::http);
}

TEST(location, its_text_means_the_same_again) {
  for (const auto* text :
       {"hf://a/b", "hf://a/b@v1", "hf://a/b:Q4_K_M", "hf://a/b@x/y:d/f.gguf", "hf://a/b@r/f.gguf",
        "hf://a/b@refs/x.gguf", "s3://bucket/m.gguf?region=x", "s3://bucket",
        "s3://bucket/p?endpoint=http://127.0.0.1:9000",
        "s3://bucket/p%20q?region=x&addressing=path", "http://host:81/a/b/", "https://[::1]/x",
        "file:///a%20b/c", "/plain/path", "relative"}) {
    const auto once = parse_location(text);
    ASSERT_TRUE(once) << text << ": " << describe(once.error());
    const auto twice = parse_location(once->text);
    ASSERT_TRUE(twice) << once->text;
    EXPECT_EQ(once->text, twice->text);
    EXPECT_EQ(once->kind, twice->kind);
    EXPECT_EQ(once->url, twice->url);
    EXPECT_EQ(once->prefix, twice->prefix);
    EXPECT_EQ(once->endpoint, twice->endpoint);
    EXPECT_EQ(once->path, twice->path);
    EXPECT_EQ(once->model_name, twice->model_name);
  }
}

TEST(location, what_makes_no_sense_is_refused_with_the_text_in_the_message) {
  for (const auto* text : {"",
                           "hf://",
                           "hf://a/b/c",
                           "hf://a/../b",
                           "hf://a/b@",
                           "hf://a/b@../x",
                           "hf://a/b:",
                           "hf://a/b:Q4 K",
                           "hf://a/b:Q4/x",
                           "hf://a/b@x:y:Q4",
                           "hf://a/b/../x.gguf",
                           "hf://a/b/c.safetensors",
                           "hf://a/b:.gguf",
                           "hf://-a/b",
                           "hf://a--b/c",
                           "s3://",
                           "s3://ab",
                           "s3://UP!/x",
                           "s3://bucket/a//b",
                           "s3://bucket/../x",
                           "s3://bucket/x?what=1",
                           "s3://bucket/x?endpoint=file:///etc",
                           "s3://bucket/x?region=",
                           "http://",
                           "https://host/a?query",
                           "ftp://host/x",
                           "gopher://x",
                           "file://host/x",
                           "hf://a/b\nc"}) {
    const auto got = parse_location(text);
    ASSERT_FALSE(got) << text;
    EXPECT_EQ(got.error(), errc::bad_reference) << text;
  }
  EXPECT_NE(describe(parse_location("ftp://h/x").error()).find("ftp://h/x"), std::string::npos);
  EXPECT_FALSE(parse_location(std::string(3000, 'x')));
  const auto why = describe(parse_location("http://joe:se@cret@h/x?q=1").error());
  EXPECT_NE(why.find("http://h/x"), std::string::npos) << why;
  EXPECT_EQ(why.find("cret"), std::string::npos) << why;
}

TEST(location, no_message_shows_what_opens_a_door) {
  struct shown {
    const char *reference, *text;
  };
  for (const auto& one :
       {shown{"https://host/m?X-Amz-Signature=s3cr3t&X-Amz-Date=s3cr3t",
              "https://host/m?X-Amz-Signature=***&X-Amz-Date=***"},
        shown{"https://joe:s3cr3t@host/m?s3cr3t", "https://host/m?***"},
        shown{"https://host/m#token=s3cr3t", "https://host/m#***"},
        shown{"https://host/m?a=s3cr3t#s3cr3t", "https://host/m?a=***#***"},
        shown{"https://joe:s3c?r3t@host/m", "https://***/m"},
        shown{"https://joe:s3c#s3cr3t@host", "https://***"},
        shown{"hf://org/name?token=s3cr3t", "hf://org/name?token=***"},
        shown{"hf.co/org/name?token=s3cr3t", "hf.co/org/name?token=***"},
        shown{"https://huggingface.co/org/name/raw/main/x?sig=s3cr3t",
              "https://huggingface.co/org/name/raw/main/x?sig=***"},
        shown{"s3://bucket/m?region=eu&secret=s3cr3t", "s3://bucket/m?region=eu&secret=***"},
        shown{"s3://bucket/m?endpoint=ftp://joe:s3cr3t@h&region=x",
              "s3://bucket/m?endpoint=ftp://h&region=x"},
        shown{"s3://bucket/m?endpoint=ftp%3A%2F%2Fjoe%3As3cr3t%40h",
              "s3://bucket/m?endpoint=ftp://h"},
        shown{"ftp://joe:s3cr3t@host/m?s3cr3t=s3cr3t", "ftp://host/m?s3cr3t=***"},
        shown{"http://a/b?x=s3cr3t\nhttps://joe:s3cr3t@c/d?y=s3cr3t",
              "http://a/b?x=***\nhttps://c/d?y=***"}}) {
    EXPECT_EQ(without_credentials(one.reference), one.text);
    const auto hidden = with_hidden_credentials(one.reference);
    const std::string_view names_itself{"s3cr3t="};
    const auto got = parse_location(one.reference);
    for (const auto& text : {hidden, got ? got->text : describe(got.error())})
      EXPECT_EQ(text.find("s3cr3t"), text.find(names_itself)) << text;
  }
  EXPECT_EQ(without_credentials("s3://b/m?endpoint=http%3A%2F%2Fh%3A1&region=x"),
            "s3://b/m?endpoint=http%3A%2F%2Fh%3A1&region=x");
  EXPECT_EQ(without_credentials("/models/what?now=1"), "/models/what?now=1");
}

TEST(percent, encoding_and_decoding_are_inverse_and_strict) {
  EXPECT_EQ(percent_encode("a b/c+d~é", true), "a%20b/c%2Bd~%C3%A9");
  EXPECT_EQ(percent_encode("a/b", false), "a%2Fb");
  EXPECT_EQ(percent_decode("a%20b%2fc%"), "a b/c%");
  EXPECT_EQ(percent_decode("%zz%4"), "%zz%4");
  std::string all;
  for (int i = 0; i < 256; ++i)
    all += static_cast<char>(i);
  EXPECT_EQ(percent_decode(percent_encode(all, false)), all);
}

} // namespace
} // namespace troupe::storage
