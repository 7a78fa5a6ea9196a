#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tools/activation_memory.h"
#include "tools/module_costs.h"
#include "tools/paper_row.h"

namespace vrwkv::tools {

/// What vrwkv-info found out.
struct Info {
  std::string source;  ///< What was asked for: a file, or a variant.
  ClassifierOptions options;
  std::optional<MaeOptions> mae = {};  ///< Of a masked autoencoder, with options.backbone as its encoder.
  int64_t size = 0;                    ///< Side in pixels of the input image.
  ModuleCosts costs = {};
  std::string precision = {};  ///< Device and dtype that `memory` was measured with.
  ActivationMemory memory = {};
  std::optional<PaperRow> paper = {};
};

/// Patches of the input image.
Grid grid_of(const Info& info);

/// Those of them that the encoder of a masked autoencoder sees.
std::optional<int64_t> visible_of(const Info& info);

/// For people: a table of the modules down to `depth` levels below the network, then the sums, beside the paper's.
std::string info_text(const Info& info, int64_t depth);

/// The same, all levels, with exact numbers: {"source", "image_size", "tokens", "visible_tokens", "parameters",
/// "flops", "activation_bytes": {"precision", "total", "each_block", "rest"}, "paper": {…} or null, "modules": {"name",
/// "class", "parameters", "flops", "modules": […]}}.
nlohmann::ordered_json info_json(const Info& info);

}  // namespace vrwkv::tools
