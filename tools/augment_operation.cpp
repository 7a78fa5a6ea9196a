#include "tools/augment_operation.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <vector>

#include "common/errors.h"
#include "config/nearest_name.h"
#include "config/text.h"
#include "data/augment/named.h"

namespace vrwkv::tools {
namespace {

using data::augment::Argument;
using data::augment::NamedOperation;

const NamedOperation& find_operation(const std::string& name) {
  const auto operations = data::augment::named_operations();
  const auto found = std::ranges::find(operations, name, &NamedOperation::name);
  if (found != operations.end()) return *found;
  std::vector<std::string> names;
  std::string list;
  for (const NamedOperation& operation : operations) {
    names.emplace_back(operation.name);
    list += (list.empty() ? "" : ", ") + names.back();
  }
  const std::optional<std::string> nearest = config::nearest_name(name, names);
  throw UsageError("--op: unknown operation '" + name + "' " +
                   (nearest ? "(did you mean '" + *nearest + "'?)" : "(known: " + list + ")"));
}

double argument_of(const NamedOperation& operation, const std::optional<std::string>& text) {
  const std::string name(operation.name);
  if (operation.argument == Argument::none) {
    if (text) throw UsageError("--op: " + name + " takes no value, got '" + *text + "'; write --op " + name);
    return 0.0;
  }
  const bool whole = operation.argument == Argument::whole;
  const std::string expected = "--op: " + name + " needs " + (whole ? "an integer" : "a number");
  if (!text) throw UsageError(expected + "; write --op " + name + "=VALUE");
  std::optional<double> value;
  if (whole) {
    if (const auto integer = config::parse_integer(*text)) value = static_cast<double>(*integer);
  } else {
    value = config::parse_number(*text);
  }
  if (!value) throw UsageError(expected + ", got '" + *text + "'");
  return *value;
}

}  // namespace

at::Tensor apply_operation(const std::string& text, const at::Tensor& image) {
  const std::size_t equals = text.find('=');
  const NamedOperation& operation = find_operation(text.substr(0, equals));
  std::optional<std::string> value;
  if (equals != std::string::npos) value = text.substr(equals + 1);
  const double argument = argument_of(operation, value);
  try {
    return operation.apply(image, argument);
  } catch (const std::invalid_argument& error) {
    throw UsageError(std::string("--op: ") + error.what());
  }
}

}  // namespace vrwkv::tools
