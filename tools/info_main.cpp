#include <filesystem>
#include <iostream>

#include "cli/device.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/run_main.h"
#include "common/errors.h"
#include "config/text.h"
#include "tools/info_report.h"
#include "tools/options_of_weights.h"
#include "vrwkv/checkpoint/autoencoder_names.h"
#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/checkpoint/weights.h"

namespace {

using namespace vrwkv;

struct InfoFlags : cli::Flags {
  std::string size, json;
  std::string depth = "3";
};

/// What is described, and for which input and precision.
struct Subject {
  config::RunConfig config;
  ModelWeights weights;  ///< Empty unless a checkpoint was given.
  int64_t size = 0;
};

bool is_configuration(const std::filesystem::path& path) {
  const std::string ending = path.extension().string();
  return ending == ".yaml" || ending == ".yml" || ending == ".json";
}

config::Dtype parse_dtype(const std::string& name) {
  if (name == "float64") return config::Dtype::float64;
  if (name == "bfloat16") return config::Dtype::bfloat16;
  return name == "float16" ? config::Dtype::float16 : config::Dtype::float32;
}

std::string dtype_name(config::Dtype dtype) {
  for (const char* name : {"float64", "bfloat16", "float16"}) {
    if (parse_dtype(name) == dtype) return name;
  }
  return "float32";
}

ClassifierOptions variant(const std::string& name) {
  try {
    return variant_options(name);
  } catch (const UsageError& error) {
    throw UsageError(name + " is no file; " + error.what());
  }
}

Subject find_subject(const InfoFlags& flags) {
  Subject subject;
  if (is_configuration(flags.config)) {
    subject.config = cli::load_config(flags);
    subject.size = subject.config.data.eval_transform.size;
    return subject;
  }
  if (!flags.overrides.empty()) {
    throw UsageError("values are replaced in a configuration (.yaml, .yml or .json), but " + flags.config +
                     " is none, got " + flags.overrides.front());
  }
  if (std::filesystem::is_directory(flags.config)) {
    throw UsageError(flags.config + " is a folder; name a configuration, a checkpoint or a variant");
  }
  if (std::filesystem::exists(flags.config)) {
    subject.weights = read_model_weights(flags.config);
    if (is_autoencoder(subject.weights.tensors)) {
      throw UsageError(flags.config + " holds a masked autoencoder; name the configuration that it was trained with");
    }
    subject.config.model = tools::options_of_weights(subject.weights, flags.config);
  } else {
    subject.config.model = variant(flags.config);
  }
  subject.config.run.dtype = parse_dtype(flags.dtype);
  if (!flags.device.empty()) subject.config.run.device = flags.device;
  subject.size = subject.config.model.backbone.img_size;
  return subject;
}

int64_t input_size(const InfoFlags& flags, const Subject& subject) {
  const int64_t size = flags.size.empty() ? subject.size : *config::parse_integer(flags.size);
  const int64_t patch = subject.config.model.backbone.patch_size;
  if (size % patch != 0) {
    throw UsageError("--size must be a multiple of the patch size " + std::to_string(patch) + ", got " +
                     std::to_string(size));
  }
  return size;
}

/// Of a classifier.
void add_costs(tools::Info& info, const ModelWeights& weights, const eval::Precision& precision) {
  ClassifierOptions quick = info.options;
  quick.backbone.linear_init = LinearInit::trunc_normal;  // Orthogonal matrices take their time.
  VrwkvClassifier model(quick);
  if (!weights.tensors.empty()) load_state_dict(*model, weights.tensors);
  info.costs = tools::model_costs(model, tools::grid_of(info));
  info.memory = tools::measure_activations(info.options, info.size, precision);
  info.paper = tools::paper_row(info.options);
}

/// Of a masked autoencoder.
void add_costs(tools::Info& info, MaskedAutoencoderOptions options, const eval::Precision& precision) {
  options.backbone.linear_init = LinearInit::trunc_normal;
  info.mae = options.mae;
  info.costs = tools::model_costs(MaskedAutoencoder(options), tools::grid_of(info));
  info.memory = tools::measure_activations(options, info.size, precision);
}

int describe(const InfoFlags& flags) {
  cli::check_output("--json", flags.json);
  const Subject subject = find_subject(flags);
  tools::Info info{.source = flags.config, .options = subject.config.model, .size = input_size(flags, subject)};
  const eval::Precision precision{cli::prepare_device(subject.config.run), subject.config.run.dtype};
  info.precision = precision.device.str() + ", " + dtype_name(precision.dtype);
  if (subject.config.task == config::TaskName::mae) {
    add_costs(info, MaskedAutoencoderOptions{info.options.backbone, subject.config.mae}, precision);
  } else {
    add_costs(info, subject.weights, precision);
  }
  if (flags.json != "-") std::cout << tools::info_text(info, *config::parse_integer(flags.depth));
  if (!flags.json.empty()) cli::write_output(flags.json, tools::info_json(info).dump(2) + "\n");
  return cli::kSuccess;
}

}  // namespace

int main(int argc, char** argv) {
  const auto app = cli::make_app(
      "vrwkv-info", "Describes a network: parameters, FLOPs and memory of activations, beside the paper's numbers.");
  InfoFlags flags;
  cli::add_flags(*app, flags);
  app->get_option("CONFIG")->description(
      "A configuration (.yaml, .yml, .json), a checkpoint (.safetensors, .pth) or a variant's name, such as small");
  app->get_option("--device")->default_str("run.device of CONFIG, else auto");
  app->get_option("--dtype")->default_str("run.dtype of CONFIG, else float32");
  app->add_option("--size", flags.size, "Side of the input image in pixels, a multiple of the patch size")
      ->type_name("N")
      ->default_str("data.eval_transform.size of CONFIG, else what the position embedding is for")
      ->check(cli::positive_integer());
  app->add_option("--depth", flags.depth, "Levels of modules shown below the network")
      ->type_name("N")
      ->check(cli::positive_integer());
  app->add_option("--json", flags.json, "Write all levels and exact numbers as JSON; - for stdout, without text")
      ->type_name("FILE")
      ->default_str("none");
  cli::add_overrides(*app, flags);
  return cli::run_main(*app, argc, argv, [&] { return describe(flags); });
}
