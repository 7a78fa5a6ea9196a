#include <yaml-cpp/emitter.h>
#include <yaml-cpp/emittermanip.h>
#include <yaml-cpp/null.h>

#include "config/expand.h"
#include "config/run_config.h"
#include "config/schema.h"
#include "config/text.h"

namespace vrwkv::config {

namespace {

void write_string(YAML::Emitter& out, const std::string& text) {
  if (looks_like_other_type(text)) out << YAML::DoubleQuoted;
  out << text;
}

void write_value(YAML::Emitter& out, const Target& target) {
  std::visit(Overloaded{
                 [&](int64_t* value) { out << std::to_string(*value); },
                 [&](double* value) { out << number_text(*value); },
                 [&](std::optional<double>* value) {
                   if (*value) {
                     out << number_text(**value);
                   } else {
                     out << YAML::Null;
                   }
                 },
                 [&](std::span<double> values) {
                   out << YAML::Flow << YAML::BeginSeq;
                   for (const double value : values) out << number_text(value);
                   out << YAML::EndSeq;
                 },
                 [&](bool* value) { out << (*value ? "true" : "false"); },
                 [&](const PathText& path) { write_string(out, escape_path(*path.value)); },
                 [&](const TextList& list) {
                   out << YAML::Flow << YAML::BeginSeq;
                   for (const std::string& text : *list.values) write_string(out, text);
                   out << YAML::EndSeq;
                 },
                 [&](const DeviceText& device) { out << *device.value; },
                 [&](const Choice& choice) { out << choice.names[choice.get()]; },
             },
             target);
}

void write_section(YAML::Emitter& out, const Section& section) {
  out << YAML::BeginMap;
  for (const Field& field : section.fields) {
    out << YAML::Key << field.name << YAML::Value;
    write_value(out, field.target);
  }
  for (const Section& inner : section.sections) {
    out << YAML::Key << inner.name << YAML::Value;
    write_section(out, inner);
  }
  out << YAML::EndMap;
}

}  // namespace

std::string to_yaml(const RunConfig& config) {
  // The whole model section is written out, so it starts from no variant.
  Document document{.config = config};
  YAML::Emitter out;
  write_section(out, describe(document));
  return std::string(out.c_str()) + "\n";
}

}  // namespace vrwkv::config
