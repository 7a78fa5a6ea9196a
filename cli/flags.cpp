#include "cli/flags.h"

#include <torch/version.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

#include "cli/device.h"
#include "common/errors.h"
#include "config/text.h"

namespace vrwkv::cli {
namespace {

constexpr std::size_t kHelpColumn = 32;

/// Help that says of every flag what it is without it.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_name().empty() ? "" : " " + option->get_type_name();
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string& text = option->get_description();
    if (option->get_required()) return text + " [required]";
    if (!option->get_default_str().empty()) return text + " [default: " + option->get_default_str() + "]";
    return option->get_configurable() ? text + " [default: off]" : text;  // --help and --version are not configurable
  }
};

std::string version_text(const std::string& program) {
#if defined(VRWKV_WITH_CUDA)
  const std::string cuda = "with";
#else
  const std::string cuda = "without";
#endif
  return program + " " VRWKV_VERSION " (LibTorch " TORCH_VERSION ", " + cuda + " CUDA)";
}

std::string check_device(const std::string& name) {
  return is_device_name(name) ? "" : "must be cpu, cuda, cuda:N or auto, got '" + name + "'";
}

std::string check_dtype(const std::string& name) {
  if (name == "float64" || name == "float32" || name == "bfloat16" || name == "float16") return "";
  return "must be float64, float32, bfloat16 or float16, got '" + name + "'";
}

}  // namespace

std::unique_ptr<CLI::App> make_app(const std::string& program, const std::string& purpose) {
  auto app = std::make_unique<CLI::App>(purpose, program);
  auto formatter = std::make_shared<HelpFormatter>();
  formatter->column_width(kHelpColumn);
  app->formatter(formatter);
  app->option_defaults()->always_capture_default();
  app->set_version_flag("--version", version_text(program));
  return app;
}

void add_config_flag(CLI::App& app, Flags& flags) {
  app.add_option("CONFIG", flags.config, "Configuration file, see docs/config.md")->required()->type_name("FILE");
}

void add_dtype_flag(CLI::App& app, Flags& flags) {
  app.add_option("--dtype", flags.dtype, "Precision: float64, float32, bfloat16 or float16 (both autocast)")
      ->type_name("NAME")
      ->default_str("run.dtype of CONFIG")
      ->check(CLI::Validator(check_dtype, ""));
}

void add_flags(CLI::App& app, Flags& flags) {
  add_config_flag(app, flags);
  app.add_option("--device", flags.device, "cpu, cuda, cuda:N or auto (the first GPU, else the CPU)")
      ->type_name("NAME")
      ->default_str("run.device of CONFIG")
      ->check(CLI::Validator(check_device, ""));
  add_dtype_flag(app, flags);
}

void add_weights_flag(CLI::App& app, WeightSet& weights) {
  const std::map<std::string, WeightSet> sets{{"raw", WeightSet::raw}, {"ema", WeightSet::ema}};
  CLI::Transformer by_name(sets);
  by_name.description("");  // It would print the numbers behind the names.
  app.add_option("--weights", weights, "raw: the trained weights; ema: their moving average")
      ->type_name("raw|ema")
      ->default_str("raw")
      ->transform(by_name);
}

void add_overrides(CLI::App& app, Flags& flags) {
  app.add_option("key.path=value", flags.overrides, "Values that replace those of CONFIG, such as data.workers=2")
      ->type_name("")
      ->default_str("none");
}

bool is_override(const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos || equals == 0) return false;
  const auto is_key = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; };
  return std::all_of(argument.begin(), argument.begin() + static_cast<std::ptrdiff_t>(equals), is_key);
}

CLI::Validator positive_integer() {
  const auto check = [](const std::string& text) -> std::string {
    const std::optional<int64_t> value = config::parse_integer(text);
    return value && *value >= 1 ? "" : "must be an integer >= 1, got '" + text + "'";
  };
  return {check, ""};
}

config::RunConfig load_config(const Flags& flags) {
  std::vector<std::string> overrides = flags.overrides;
  if (!flags.device.empty()) overrides.push_back("run.device=" + flags.device);
  if (!flags.dtype.empty()) overrides.push_back("run.dtype=" + flags.dtype);
  return config::load_run_config(flags.config, overrides);
}

config::RunConfig load_classifier_config(const Flags& flags) {
  config::RunConfig config = load_config(flags);
  if (config.task == config::TaskName::classification) return config;
  throw UsageError(flags.config +
                   " says task: mae, but this program is for classifiers; name the configuration of one, such as of a "
                   "run that starts from the autoencoder's weights (model.init_from)");
}

}  // namespace vrwkv::cli
