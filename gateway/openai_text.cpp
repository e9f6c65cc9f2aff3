#include "gateway/openai_text.hpp"

#include <chrono>
#include <set>

#include "gateway/http.hpp"
#include "gateway/json_text.hpp"

namespace troupe::gateway {

namespace {

void append_bytes(std::string& out, std::string_view bytes) {
  out += '[';
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0)
      out += ',';
    append_json_number(out, uint64_t{static_cast<unsigned char>(bytes[i])});
  }
  out += ']';
}

void append_token(std::string& out, std::string_view text, std::string_view bytes, float logprob) {
  out += R"({"token":)";
  append_json_string(out, text);
  out += R"(,"logprob":)";
  append_json_number(out, logprob);
  out += R"(,"bytes":)";
  append_bytes(out, bytes);
}

void append_separated(std::string& list) {
  if (!list.empty())
    list += ',';
}

} // namespace

answer_identity make_identity(bool chat, std::string model) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {chat, (chat ? "chatcmpl-" : "cmpl-") + random_hex(), std::move(model),
          std::chrono::duration_cast<std::chrono::seconds>(now).count()};
}

std::string_view finish_text(engine::finish_reason reason) {
  switch (reason) {
  case engine::finish_reason::stop:
    return "\"stop\"";
  case engine::finish_reason::length:
    return "\"length\"";
  case engine::finish_reason::none:
    break;
  }
  return "null";
}

void append_usage(std::string& out, const actors::usage& used) {
  out += R"({"prompt_tokens":)";
  append_json_number(out, uint64_t{used.prompt_tokens});
  out += R"(,"completion_tokens":)";
  append_json_number(out, uint64_t{used.completion_tokens});
  out += R"(,"total_tokens":)";
  append_json_number(out, uint64_t{used.prompt_tokens} + used.completion_tokens);
  out += R"(,"prompt_tokens_details":{"cached_tokens":)";
  append_json_number(out, uint64_t{used.cached_tokens});
  out += "}}";
}

void append_chat_logprobs(std::string& out, const std::vector<actors::piece_logprob>& logprobs) {
  for (size_t i = 0; i < logprobs.size(); ++i) {
    const auto& one = logprobs[i];
    if (i > 0)
      out += ',';
    append_token(out, one.text, one.bytes, one.logprob);
    out += R"(,"top_logprobs":[)";
    for (size_t k = 0; k < one.top.size(); ++k) {
      if (k > 0)
        out += ',';
      append_token(out, one.top[k].text, one.top[k].bytes, one.top[k].logprob);
      out += '}';
    }
    out += "]}";
  }
}

std::vector<uint64_t> text_offsets::next(const actors::text_piece& piece) {
  std::vector<uint64_t> out;
  for (const auto& one : piece.logprobs) {
    out.push_back(at_);
    at_ += count_characters(one.text);
    seen_tokens_ = true;
  }
  // An echoed prompt comes first and has no tokens of its own. Later pieces without tokens are
  // text held back from tokens already counted.
  if (!seen_tokens_)
    at_ += count_characters(piece.text);
  return out;
}

void completion_logprobs::add(const actors::text_piece& piece, text_offsets& offsets) {
  const auto at = offsets.next(piece);
  for (size_t i = 0; i < piece.logprobs.size(); ++i) {
    const auto& one = piece.logprobs[i];
    for (auto* list : {&tokens_, &token_logprobs_, &top_logprobs_, &text_offset_})
      append_separated(*list);
    append_json_string(tokens_, one.text);
    append_json_number(token_logprobs_, one.logprob);
    append_json_number(text_offset_, at[i]);
    top_logprobs_ += '{';
    std::set<std::string_view> seen; // several tokens can decode to the same text
    for (const auto& other : one.top) {
      if (!seen.insert(other.text).second)
        continue;
      if (seen.size() > 1)
        top_logprobs_ += ',';
      append_json_string(top_logprobs_, other.text);
      top_logprobs_ += ':';
      append_json_number(top_logprobs_, other.logprob);
    }
    top_logprobs_ += '}';
  }
}

void completion_logprobs::append_to(std::string& out) const {
  out += R"({"tokens":[)";
  out += tokens_;
  out += R"(],"token_logprobs":[)";
  out += token_logprobs_;
  out += R"(],"top_logprobs":[)";
  out += top_logprobs_;
  out += R"(],"text_offset":[)";
  out += text_offset_;
  out += "]}";
}

} // namespace troupe::gateway
