#include "tools/info_report.h"

#include "common/table.h"

namespace vrwkv::tools {
namespace {

constexpr double kMillion = 1e6, kBillion = 1e9, kMebibyte = 1024.0 * 1024.0;

/// 6155176 -> 6,155,176
std::string grouped(int64_t value) {
  constexpr size_t kDigits = 3;
  std::string text = std::to_string(value);
  for (size_t at = text.size(); at > kDigits; at -= kDigits) text.insert(at - kDigits, 1, ',');
  return text;
}

std::string in_millions(double value) { return decimal(value, 1) + "M"; }
/// 1.2G; small networks in millions.
std::string flops_text(double value) {
  constexpr double kSmall = 0.1;
  return value < kSmall ? in_millions(value * kBillion / kMillion) : decimal(value, 1) + "G";
}
std::string in_mebibytes(int64_t bytes) { return decimal(static_cast<double>(bytes) / kMebibyte, 2) + " MiB"; }

void add_rows(Table& table, const ModuleCosts& module, int64_t level, int64_t depth) {
  const std::string indent(static_cast<size_t>(2 * level), ' ');
  table.add({indent + (module.name.empty() ? "network" : module.name), module.kind, grouped(module.parameters),
             grouped(module.flops)});
  if (level == depth) return;
  for (const ModuleCosts& part : module.parts) add_rows(table, part, level + 1, depth);
}

/// Where the paper's row is of another network or input than the one described.
std::string differences(const Info& info) {
  const VrwkvOptions& backbone = info.options.backbone;
  const auto pixels = [](int64_t size) { return std::to_string(size) + " pixels"; };
  std::string text;
  const auto add = [&](const std::string& what) { text += (text.empty() ? " (" : ", ") + what; };
  if (info.options.num_classes != ClassifierOptions{}.num_classes) {
    add("with " + std::to_string(ClassifierOptions{}.num_classes) + " classes");
  }
  if (backbone.img_size != info.paper->pos_embed_size) {
    add("parameters with a position embedding for " + pixels(info.paper->pos_embed_size));
  }
  if (info.size != info.paper->size) add("FLOPs at " + pixels(info.paper->size));
  return text.empty() ? text : text + ")";
}

std::string paper_line(const Info& info) {
  return "paper: VRWKV " + info.paper->variant + ", " + in_millions(info.paper->parameters) + " parameters, " +
         flops_text(info.paper->flops) + " FLOPs" + differences(info) + "\n";
}

std::string memory_line(const Info& info) {
  std::string parts;
  if (info.memory.block > 0) {
    parts = ": " + in_mebibytes(info.memory.block) + " for each block but the last, " + in_mebibytes(info.memory.rest) +
            " for that and the rest";
  }
  return "kept for the backward pass, an image: " + in_mebibytes(info.memory.total) + " (" + info.precision + ")" +
         parts + "\n";
}

nlohmann::ordered_json module_json(const ModuleCosts& module) {
  nlohmann::ordered_json parts = nlohmann::ordered_json::array();
  for (const ModuleCosts& part : module.parts) parts.push_back(module_json(part));
  return {{"name", module.name},
          {"class", module.kind},
          {"parameters", module.parameters},
          {"flops", module.flops},
          {"modules", std::move(parts)}};
}

nlohmann::ordered_json paper_json(const std::optional<PaperRow>& paper) {
  if (!paper) return nullptr;
  return {{"variant", paper->variant},
          {"parameters", paper->parameters * kMillion},
          {"flops", paper->flops * kBillion},
          {"image_size", paper->size},
          {"pos_embed_size", paper->pos_embed_size}};
}

}  // namespace

Grid grid_of(const Info& info) {
  const int64_t side = info.size / info.options.backbone.patch_size;
  return {side, side};
}

std::optional<int64_t> visible_of(const Info& info) {
  if (!info.mae) return std::nullopt;
  return visible_tokens(grid_of(info).tokens(), info.mae->mask_ratio);
}

std::string info_text(const Info& info, int64_t depth) {
  Table table({{"module", Align::left}, {"class", Align::left}, {"parameters"}, {"FLOPs"}});
  add_rows(table, info.costs, 0, depth);
  const std::string size = std::to_string(info.size);
  std::string text = table.text() + "\n";
  text += "input: " + size + " x " + size + " pixels, " + std::to_string(grid_of(info).tokens()) + " tokens";
  if (const auto visible = visible_of(info)) text += ", " + std::to_string(*visible) + " of them visible";
  text += "\n";
  text += "here: " + in_millions(static_cast<double>(info.costs.parameters) / kMillion) + " parameters, " +
          flops_text(static_cast<double>(info.costs.flops) / kBillion) + " FLOPs\n";
  if (info.paper) text += paper_line(info);
  return text + memory_line(info);
}

nlohmann::ordered_json info_json(const Info& info) {
  return {{"source", info.source},
          {"image_size", info.size},
          {"tokens", grid_of(info).tokens()},
          {"visible_tokens", visible_of(info).value_or(grid_of(info).tokens())},
          {"parameters", info.costs.parameters},
          {"flops", info.costs.flops},
          {"activation_bytes",
           {{"precision", info.precision},
            {"total", info.memory.total},
            {"each_block", info.memory.block},
            {"rest", info.memory.rest}}},
          {"paper", paper_json(info.paper)},
          {"modules", module_json(info.costs)}};
}

}  // namespace vrwkv::tools
