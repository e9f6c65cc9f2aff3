#include "storage/sources/s3_listing.hpp"

#include <charconv>
#include <functional>
#include <memory>
#include <type_traits>

#include <expat.h>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

constexpr int depth_max = 16;
constexpr size_t text_bytes_max = 8192;

/// Calls `leaf(path, text)` at the end of every element, the path being "/Outer/Inner" without
/// namespaces. Expat itself resists entities that grow; documents with a DTD are refused anyway.
struct xml_walk {
  XML_Parser parser = nullptr;
  std::string path;
  std::string text;
  int depth = 0;
  bool refused = false;
  std::function<bool(std::string_view path, const std::string& text)> leaf;

  void refuse() {
    refused = true;
    XML_StopParser(parser, XML_FALSE);
  }
};

void XMLCALL on_start(void* data, const XML_Char* name, const XML_Char**) {
  auto& walk = *static_cast<xml_walk*>(data);
  const std::string_view full = name;
  const auto colon = full.rfind(':');
  if (++walk.depth > depth_max || full.size() > 256)
    return walk.refuse();
  walk.path += '/';
  walk.path += colon == std::string_view::npos ? full : full.substr(colon + 1);
  walk.text.clear();
}

void XMLCALL on_end(void* data, const XML_Char*) {
  auto& walk = *static_cast<xml_walk*>(data);
  if (walk.refused)
    return;
  if (!walk.leaf(walk.path, walk.text))
    return walk.refuse();
  --walk.depth;
  walk.path.resize(walk.path.rfind('/'));
  walk.text.clear();
}

void XMLCALL on_text(void* data, const XML_Char* text, int length) {
  auto& walk = *static_cast<xml_walk*>(data);
  if (walk.text.size() + static_cast<size_t>(length) > text_bytes_max)
    return walk.refuse();
  walk.text.append(text, static_cast<size_t>(length));
}

void XMLCALL on_doctype(void* data, const XML_Char*, const XML_Char*, const XML_Char*, int) {
  static_cast<xml_walk*>(data)->refuse();
}

bool walk_xml(std::string_view xml, xml_walk& walk) {
  const std::unique_ptr<std::remove_pointer_t<XML_Parser>, decltype(&XML_ParserFree)> parser{
      XML_ParserCreate("UTF-8"), XML_ParserFree};
  if (!parser || xml.size() > size_t{256} << 20)
    return false;
  walk.parser = parser.get();
  XML_SetUserData(parser.get(), &walk);
  XML_SetElementHandler(parser.get(), on_start, on_end);
  XML_SetCharacterDataHandler(parser.get(), on_text);
  XML_SetStartDoctypeDeclHandler(parser.get(), on_doctype);
  return XML_Parse(parser.get(), xml.data(), static_cast<int>(xml.size()), 1) == XML_STATUS_OK &&
         !walk.refused;
}

} // namespace

caf::expected<s3_listing> parse_s3_listing(std::string_view xml, const std::string& origin) {
  s3_listing out;
  s3_object object;
  bool listing = false, truncated = false;
  xml_walk walk;
  walk.leaf = [&](std::string_view path, const std::string& text) {
    constexpr std::string_view root = "/ListBucketResult";
    if (!path.starts_with(root))
      return false;
    path.remove_prefix(root.size());
    if (path.empty()) {
      listing = true;
    } else if (path == "/IsTruncated") {
      truncated = text == "true";
    } else if (path == "/NextContinuationToken") {
      out.next = text;
    } else if (path == "/Contents/Key") {
      object.key = text;
    } else if (path == "/Contents/ETag") {
      object.etag = text;
    } else if (path == "/Contents/Size") {
      const auto [end, code] =
          std::from_chars(text.data(), text.data() + text.size(), object.size_bytes);
      return code == std::errc{} && end == text.data() + text.size() &&
             object.size_bytes <= uint64_t{1} << 62;
    } else if (path == "/Contents") {
      if (object.key.empty())
        return false;
      out.objects.push_back(std::move(object));
      object = {};
    }
    return true;
  };
  const bool whole = walk_xml(xml, walk);
  if (!whole || !listing || truncated == out.next.empty())
    return caf::make_error(errc::malformed,
                           origin + ": the answer is no listing of objects as S3 servers send");
  return out;
}

std::string s3_refusal(std::string_view xml) {
  std::string code, message;
  xml_walk walk;
  walk.leaf = [&](std::string_view path, const std::string& text) {
    if (path == "/Error/Code")
      code = text;
    else if (path == "/Error/Message")
      message = text;
    return true;
  };
  if (!walk_xml(xml, walk) || code.empty())
    return {};
  return message.empty() ? code : code + ": " + message;
}

} // namespace troupe::storage
