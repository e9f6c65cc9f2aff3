#include "config/yaml_tree.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

namespace troupe::config {
namespace {

constexpr size_t depth_max = 32;
constexpr size_t text_bytes_max = 1 << 20;

struct stop {
  yaml_problem why;
};

position where(const YAML::Mark& mark) {
  return {static_cast<uint32_t>(std::max(mark.line, 0)) + 1,
          static_cast<uint32_t>(std::max(mark.column, 0)) + 1};
}

/// Builds the tree from the parser's events: unlike YAML::Node this sees duplicate keys, the place
/// of every key, and aliases before they are followed.
class builder : public YAML::EventHandler {
public:
  std::shared_ptr<yaml_node> root;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(yaml_node::type::null, mark, anchor));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto found = anchors_.find(anchor);
    if (found == anchors_.end())
      throw stop{{where(mark), "this alias has no anchor before it"}};
    if (std::ranges::any_of(open_, [&](const level& x) { return x.node == found->second; }))
      throw stop{{where(mark), "this alias contains itself"}};
    if (expecting_key())
      throw stop{{where(mark), "an alias cannot be a key: write the key out"}};
    add(found->second);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    if (tag != "?" && tag != "!" && !tag.empty())
      throw stop{{where(mark), "YAML tags are not used here: remove '" + tag + "'"}};
    if (expecting_key()) {
      take_key(mark, text);
      return;
    }
    auto node = make(yaml_node::type::scalar, mark, anchor);
    node->text = text;
    node->quoted = tag == "!";
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(yaml_node::type::sequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(yaml_node::type::map, mark, tag, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

private:
  struct level {
    std::shared_ptr<yaml_node> node;
    bool key_read = false; ///< map: the next node is the value of entries.back()
    std::map<std::string, position> seen{};
  };

  bool expecting_key() const {
    return !open_.empty() && open_.back().node->kind == yaml_node::type::map &&
           !open_.back().key_read;
  }

  std::shared_ptr<yaml_node> make(yaml_node::type kind, const YAML::Mark& mark,
                                  YAML::anchor_t anchor) {
    auto node = std::make_shared<yaml_node>();
    node->kind = kind;
    node->at = where(mark);
    if (anchor != 0)
      anchors_[anchor] = node;
    return node;
  }

  void open(yaml_node::type kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    if (tag != "?" && tag != "!" && !tag.empty())
      throw stop{{where(mark), "YAML tags are not used here: remove '" + tag + "'"}};
    if (open_.size() >= depth_max)
      throw stop{{where(mark), "nested too deeply: no setting lies that deep"}};
    auto node = make(kind, mark, anchor);
    add(node);
    open_.push_back({std::move(node)});
  }

  void take_key(const YAML::Mark& mark, const std::string& text) {
    auto& top = open_.back();
    auto [before, fresh] = top.seen.emplace(text, where(mark));
    if (!fresh)
      throw stop{{where(mark), "'" + text + "' is set twice: the first is in line " +
                                   std::to_string(before->second.line) + ", keep one of the two"}};
    top.node->entries.push_back({text, where(mark), nullptr});
    top.key_read = true;
  }

  void add(std::shared_ptr<yaml_node> node) {
    if (open_.empty()) {
      root = std::move(node);
      return;
    }
    auto& top = open_.back();
    if (top.node->kind == yaml_node::type::sequence) {
      top.node->items.push_back(std::move(node));
      return;
    }
    if (!top.key_read)
      throw stop{{node->at, "a key must be a plain name"}};
    top.node->entries.back().node = std::move(node);
    top.key_read = false;
  }

  std::vector<level> open_;
  std::map<YAML::anchor_t, std::shared_ptr<yaml_node>> anchors_;
};

/// YAML forbids tabs in indentation, and what its parsers say about them helps nobody.
std::optional<yaml_problem> tab_in_indentation(const std::string& text) {
  position at;
  for (size_t start = 0; start < text.size(); ++at.line) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const size_t first = text.find_first_not_of(" \t\r", start);
    if (first < end && text[first] != '#') {
      const size_t tab = text.find('\t', start);
      if (tab < first) {
        at.column = static_cast<uint32_t>(tab - start) + 1;
        return yaml_problem{at, "a tab indents this line: YAML wants spaces"};
      }
    }
    start = end + 1;
  }
  return std::nullopt;
}

std::optional<yaml_problem> unreadable_bytes(const std::string& text) {
  if (text.size() > text_bytes_max)
    return yaml_problem{{}, "the file is larger than 1 MiB: this is no configuration"};
  if (text.find('\0') != std::string::npos)
    return yaml_problem{{}, "the file holds zero bytes: this is no text file"};
  return tab_in_indentation(text);
}

} // namespace

yaml_document read_yaml(const std::string& text) {
  yaml_document result;
  result.root = std::make_shared<yaml_node>();
  result.problem = unreadable_bytes(text);
  if (result.problem)
    return result;
  try {
    std::istringstream input{text};
    YAML::Parser parser{input};
    builder events;
    if (!parser.HandleNextDocument(events))
      return result; // nothing but comments
    if (events.root)
      result.root = events.root;
    builder second;
    if (parser.HandleNextDocument(second))
      result.problem =
          yaml_problem{second.root ? second.root->at : position{},
                       "a second YAML document begins: keep one, without '---' between"};
  } catch (const stop& why) {
    result.problem = why.why;
  } catch (const YAML::Exception& why) {
    const bool known = why.mark.line >= 0;
    result.problem =
        yaml_problem{known ? where(why.mark) : position{},
                     "not valid YAML: " + (why.msg.empty() ? "cannot be read" : why.msg)};
  } catch (const std::exception& why) { // the stream and the allocator
    result.problem = yaml_problem{{}, std::string{"cannot be read: "} + why.what()};
  }
  return result;
}

} // namespace troupe::config
