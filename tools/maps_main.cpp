#include <cmath>
#include <map>
#include <optional>

#include "cli/device.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/run_main.h"
#include "common/errors.h"
#include "common/log.h"
#include "config/text.h"
#include "data/image_codec.h"
#include "eval/check_classes.h"
#include "eval/load_classifier.h"
#include "tools/maps.h"

namespace {

using namespace vrwkv;

struct MapFlags : cli::Flags {
  std::string checkpoint, out, layer, token, noise;
  std::string probes = "8";
  WeightSet weights = WeightSet::raw;
  tools::MapKind kind = tools::MapKind::receptive_field;
  std::vector<std::string> arguments;  ///< Images and overrides as they came.
  std::vector<std::string> images;
};

int64_t integer(const std::string& flag, const std::string& text) {
  const std::optional<int64_t> value = config::parse_integer(text);
  if (!value) throw UsageError(flag + " needs an integer, got '" + text + "'");
  return *value;
}

std::pair<int64_t, int64_t> token_at(const std::string& text) {
  const std::vector<std::string> parts = config::split(text, ',');
  if (parts.size() != 2) throw UsageError("--token needs ROW,COLUMN, such as 3,7, got '" + text + "'");
  return {integer("--token", parts[0]), integer("--token", parts[1])};
}

tools::MapOptions map_options(const MapFlags& flags, const config::RunConfig& config) {
  tools::MapOptions options;
  options.kind = flags.kind;
  options.layer = flags.layer.empty() ? config.model.backbone.depth - 1 : integer("--layer", flags.layer);
  if (!flags.token.empty()) options.token = token_at(flags.token);
  if (!flags.noise.empty()) options.noise = integer("--noise", flags.noise);
  options.probes = integer("--probes", flags.probes);
  options.images = flags.images;
  return options;
}

std::string legend(tools::MapKind kind) {
  const auto decades = [](double count) { return "1e-" + std::to_string(std::lround(count)) + " of the largest"; };
  if (kind == tools::MapKind::features) return "colours from the lowest cosine to 1";
  const bool field = kind == tools::MapKind::receptive_field;
  return "colours from " + decades(field ? tools::kReceptiveFieldDecades : tools::kAttentionDecades) +
         (field ? " gradient" : " weight") + " to the largest, logarithmic";
}

int draw(MapFlags flags) {
  for (const std::string& argument : flags.arguments) {
    (cli::is_override(argument) ? flags.overrides : flags.images).push_back(argument);
  }
  config::RunConfig config = cli::load_classifier_config(flags);
  cli::check_output("--out", flags.out);
  const tools::MapOptions options = map_options(flags, config);
  tools::check_maps(options, config);
  const eval::Precision precision{cli::prepare_device(config.run), config.run.dtype};
  const ModelWeights weights = eval::read_checkpoint(flags.checkpoint, flags.weights);
  eval::check_head(config, weights);
  config.model.backbone.out_indices = {options.layer};
  const VrwkvClassifier model = eval::load_classifier(config.model, weights, flags.checkpoint, precision);
  const std::vector<std::uint8_t> png = data::encode_png(tools::draw_maps(model, options, config, precision));
  cli::write_output(flags.out, std::string(png.begin(), png.end()));
  if (flags.out != "-") log::info(flags.out + " written: " + legend(options.kind));
  return cli::kSuccess;
}

void add_map_flags(CLI::App& app, MapFlags& flags) {
  cli::add_flags(app, flags);
  app.add_option("--checkpoint", flags.checkpoint, "Weights, .safetensors or .pth")->required()->type_name("FILE");
  cli::add_weights_flag(app, flags.weights);
  const std::map<std::string, tools::MapKind> kinds{{"receptive_field", tools::MapKind::receptive_field},
                                                    {"attention", tools::MapKind::attention},
                                                    {"features", tools::MapKind::features}};
  CLI::Transformer by_name(kinds);
  by_name.description("");
  app.add_option("--kind", flags.kind,
                 "receptive_field: which pixels the central token depends on; attention: which tokens a token's Bi-WKV "
                 "reads; features: which tokens resemble a token")
      ->type_name("NAME")
      ->default_str("receptive_field")
      ->transform(by_name);
  app.add_option("--out", flags.out, "The PNG to write; - for stdout")->required()->type_name("FILE");
  app.add_option("--layer", flags.layer, "Layer to look at, from 0")->type_name("N")->default_str("the last");
  app.add_option("--token", flags.token, "Patch whose attention or features are drawn")
      ->type_name("ROW,COLUMN")
      ->default_str("the centre");
  app.add_option("--noise", flags.noise, "receptive_field: so many images of noise, of run.seed, in place of files")
      ->type_name("N")
      ->default_str("none")
      ->check(cli::positive_integer());
  app.add_option("--probes", flags.probes,
                 "receptive_field: backward passes; with as many as channels, the exact map, else an estimate")
      ->type_name("N")
      ->check(cli::positive_integer());
  app.add_option("IMAGE", flags.arguments, "JPEG or PNG files; also key.path=value, to replace values of CONFIG")
      ->type_name("")
      ->default_str("none");
}

}  // namespace

int main(int argc, char** argv) {
  const auto app = cli::make_app("vrwkv-maps", "Draws what a network looks at.");
  MapFlags flags;
  add_map_flags(*app, flags);
  return cli::run_main(*app, argc, argv, [&] { return draw(flags); });
}
