#include "config/run_config.h"

#include <cstddef>
#include <string_view>

#include "config/cross_checks.h"
#include "config/node.h"
#include "config/overrides.h"
#include "config/problems.h"
#include "config/reader.h"
#include "config/schema.h"
#include "config/yaml_source.h"

namespace vrwkv::config {

namespace {

std::string replace_name(const std::string& text, const std::string& name) {
  static constexpr std::string_view kPlaceholder = "{name}";
  std::string result;
  std::size_t from = 0;
  for (std::size_t at = text.find(kPlaceholder); at != std::string::npos; at = text.find(kPlaceholder, from)) {
    result += text.substr(from, at - from) + name;
    from = at + kPlaceholder.size();
  }
  return result + text.substr(from);
}

}  // namespace

RunConfig load_run_config(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  Node root = read_config_file(file);
  apply_overrides(root, overrides);

  // The first pass finds what is wrong and which variant to start from, the second reads on top of that variant.
  Problems problems;
  Document document;
  read_section(describe(document), root, problems);
  problems.throw_if_any();
  if (document.variant != ModelVariant::none) {
    document.config.model = variant_options(variant_names()[static_cast<std::size_t>(document.variant)]);
    // A variant's head is the classifier's.
    if (document.config.task == TaskName::mae) document.config.model.head = HeadKind::linear;
    read_section(describe(document), root, problems);
  }

  RunConfig config = document.config;
  config.name = file.stem().string();
  config.run.output_dir = replace_name(config.run.output_dir, config.name);
  check_across_keys(config, root, problems);
  problems.throw_if_any();
  return config;
}

}  // namespace vrwkv::config
