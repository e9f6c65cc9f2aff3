// Messages, tools and what else a chat template is given.
#include <array>

#include "gateway/json_input.hpp"
#include "gateway/openai_request.hpp"

namespace troupe::gateway {

namespace {

constexpr std::string_view roles[] = {"system", "developer", "user", "assistant", "tool"};

bool is_role(std::string_view text) {
  for (const auto role : roles)
    if (role == text)
      return true;
  return false;
}

/// Text parts become one text, a line each: most templates print `content` as it is.
std::string join_parts(field_reader& message, const json& parts) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto name = "content[" + std::to_string(i) + "]";
    if (!parts[i].is_object()) {
      message.wrong_type(name, parts[i], "an object");
      return {};
    }
    field_reader part{parts[i], message.path(name) + "."};
    const auto& type = part.required_text("type");
    if (!part.failed() && type != "text" && type != "refusal")
      part.fail("type",
                "Unsupported content part '" + type.substr(0, 40) + "' in '" + part.path("type") +
                    "': the models served here read text only.",
                "unsupported_parameter");
    const auto& text = part.required_text(type == "refusal" ? "refusal" : "text");
    if (part.failed()) {
      message.fail(*part.error());
      return {};
    }
    if (i > 0)
      out += '\n';
    out += text;
  }
  return out;
}

/// Templates print arguments with `tojson`, so they want the value, not its text.
json read_tool_call(field_reader& message, const json& call, size_t index) {
  const auto name = "tool_calls[" + std::to_string(index) + "]";
  if (!call.is_object()) {
    message.wrong_type(name, call, "an object");
    return {};
  }
  field_reader fields{call, message.path(name) + "."};
  fields.text("id");
  fields.text("type");
  const auto* function = fields.object("function");
  if (!function)
    fields.fail("function", "Missing required parameter: '" + fields.path("function") + "'.",
                "missing_required_parameter");
  json out = call;
  if (function) {
    field_reader inner{*function, fields.path("function") + "."};
    inner.required_text("name");
    const auto* arguments = inner.any("arguments");
    if (arguments && arguments->is_string()) {
      auto parsed = parse_json_object(arguments->get_ref<const std::string&>());
      if (auto* value = std::get_if<json>(&parsed))
        out["function"]["arguments"] = std::move(*value);
    } else if (arguments && !arguments->is_object()) {
      inner.wrong_type("arguments", *arguments, "a string of JSON");
    }
    if (inner.failed())
      fields.fail(*inner.error());
  }
  if (fields.failed())
    message.fail(*fields.error());
  return out;
}

void read_content(field_reader& message, const std::string& role, bool has_calls, json& out) {
  const auto* content = message.any("content");
  if (!content) {
    if (role != "assistant")
      message.fail("content", "Missing required parameter: '" + message.path("content") + "'.",
                   "missing_required_parameter");
    else if (has_calls)
      out["content"] = nullptr;
    else
      out["content"] = "";
  } else if (content->is_string()) {
    out["content"] = *content;
  } else if (content->is_array()) {
    out["content"] = join_parts(message, *content);
  } else {
    message.wrong_type("content", *content, "a string or an array of text parts");
  }
}

json read_message(field_reader& request, const json& from, size_t index) {
  const auto name = "messages[" + std::to_string(index) + "]";
  if (!from.is_object()) {
    request.wrong_type(name, from, "an object");
    return {};
  }
  field_reader message{from, name + "."};
  json out = json::object();
  const auto& role = message.required_text("role");
  if (!message.failed() && !is_role(role))
    message.fail("role",
                 "Invalid value for '" + message.path("role") + "': '" + role.substr(0, 40) +
                     "' is not one of system, developer, user, assistant, tool.",
                 "invalid_value");
  // Templates know the older name only.
  out["role"] = role == "developer" ? "system" : role;
  const auto* calls = message.array("tool_calls");
  read_content(message, role, calls && !calls->empty(), out);
  for (const auto* key : {"name", "tool_call_id", "reasoning_content"})
    if (const auto* text = message.text(key))
      out[key] = *text;
  if (calls && !calls->empty()) {
    auto& list = out["tool_calls"] = json::array();
    for (size_t i = 0; i < calls->size() && !message.failed(); ++i)
      list.push_back(read_tool_call(message, (*calls)[i], i));
  }
  if (message.failed())
    request.fail(*message.error());
  return out;
}

void check_tool_choice(field_reader& fields, bool& use_tools) {
  const auto* choice = fields.any("tool_choice");
  if (!choice)
    return;
  if (!choice->is_string() && !choice->is_object())
    return fields.wrong_type("tool_choice", *choice, "a string or an object");
  const auto text = choice->is_string() ? choice->get<std::string>() : "named";
  if (text == "none")
    use_tools = false;
  else if (text == "required" || text == "named")
    fields.fail("tool_choice",
                "A tool cannot be forced yet: use 'auto' or 'none' for 'tool_choice'.",
                "unsupported_parameter");
  else if (text != "auto")
    fields.fail("tool_choice", "Invalid value for 'tool_choice': use 'none' or 'auto'.",
                "invalid_value");
}

void read_tools(field_reader& fields, json& extra) {
  bool use_tools = true;
  check_tool_choice(fields, use_tools);
  fields.boolean("parallel_tool_calls");
  const auto* tools = fields.array("tools");
  if (!tools)
    return;
  for (size_t i = 0; i < tools->size() && !fields.failed(); ++i) {
    const auto name = "tools[" + std::to_string(i) + "]";
    if (!(*tools)[i].is_object())
      return fields.wrong_type(name, (*tools)[i], "an object");
    field_reader tool{(*tools)[i], name + "."};
    const auto& type = tool.required_text("type");
    if (!tool.failed() && type != "function")
      tool.fail("type", "Invalid value for '" + tool.path("type") + "': only 'function' is known.",
                "invalid_value");
    if (const auto* function = tool.object("function")) {
      field_reader inner{*function, name + ".function."};
      inner.required_text("name");
      if (inner.failed())
        tool.fail(*inner.error());
    } else {
      tool.fail("function", "Missing required parameter: '" + tool.path("function") + "'.",
                "missing_required_parameter");
    }
    if (tool.failed())
      fields.fail(*tool.error());
  }
  if (use_tools && !tools->empty())
    extra["tools"] = *tools;
}

void read_template_variables(field_reader& fields, json& extra) {
  extra["add_generation_prompt"] = fields.boolean("add_generation_prompt").value_or(true);
  if (fields.boolean("continue_final_message").value_or(false))
    fields.fail("continue_final_message",
                "'continue_final_message' is not supported; use "
                "/v1/completions with the rendered text.",
                "unsupported_parameter");
  if (const auto* effort = fields.text("reasoning_effort"))
    extra["reasoning_effort"] = *effort;
  const auto* variables = fields.object("chat_template_kwargs");
  if (!variables)
    return;
  if (variables->size() > 64)
    return fields.fail("chat_template_kwargs", "'chat_template_kwargs' has more than 64 variables.",
                       "invalid_value");
  for (const auto& [key, value] : variables->items()) {
    if (key == "messages")
      return fields.fail("chat_template_kwargs", "'chat_template_kwargs' must not set 'messages'.",
                         "invalid_value");
    extra[key] = value;
  }
}

} // namespace

actors::chat_prompt read_chat(field_reader& fields) {
  actors::chat_prompt out;
  out.messages = json::array();
  out.extra = json::object();
  const auto* messages = fields.array("messages");
  if (!messages)
    fields.fail("messages", "Missing required parameter: 'messages'.",
                "missing_required_parameter");
  else if (messages->empty())
    fields.fail("messages", "Invalid value for 'messages': at least one message is needed.",
                "invalid_value");
  else
    for (size_t i = 0; i < messages->size() && !fields.failed(); ++i)
      out.messages.push_back(read_message(fields, (*messages)[i], i));
  read_tools(fields, out.extra);
  read_template_variables(fields, out.extra);
  return out;
}

} // namespace troupe::gateway
