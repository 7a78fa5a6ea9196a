#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/device.h"
#include "cli/flags.h"
#include "cli/run_main.h"
#include "common/log.h"
#include "distributed/world.h"
#include "train/classification_task.h"
#include "train/init_weights.h"
#include "train/mae_task.h"
#include "train/synthetic_run.h"
#include "train/trainer.h"

namespace {

using namespace vrwkv;

/// Gives `--resume` its value with an equals sign, which CLI11 cannot guess: the argument behind it is one if it is
/// `auto`, a checkpoint by its name, or neither flag nor override with CONFIG already there; otherwise the value is
/// `auto`.
std::vector<std::string> with_resume_value(int argc, char** argv) {
  std::vector<std::string> arguments;
  bool has_config = false;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument != "--resume") {
      has_config = has_config || (i > 0 && !argument.starts_with('-') && !cli::is_override(argument));
      arguments.push_back(argument);
      continue;
    }
    const std::string next = i + 1 < argc ? argv[i + 1] : "";
    const bool is_file = !next.empty() && !next.starts_with('-') && !cli::is_override(next) && has_config;
    const bool is_value = next == "auto" || next.ends_with(".safetensors") || is_file;
    arguments.push_back("--resume=" + (is_value ? next : "auto"));
    i += is_value ? 1 : 0;
  }
  return arguments;
}

std::unique_ptr<train::Task> make_task(const config::RunConfig& config, at::Device device,
                                       const std::shared_ptr<distributed::World>& world) {
  if (config.task == config::TaskName::mae) return std::make_unique<train::MaeTask>(config, device, world);
  return std::make_unique<train::ClassificationTask>(config, device, world);
}

int run(const cli::Flags& flags, const std::optional<std::string>& resume, bool synthetic) {
  config::RunConfig config = cli::load_config(flags);
  if (synthetic) train::use_synthetic_data(config);
  const distributed::Launch launch = cli::prepare_launch();
  const at::Device device = cli::prepare_device(config.run, launch);
  const auto world =
      std::make_shared<distributed::World>(launch, std::chrono::seconds(config.train.distributed.timeout));
  const std::unique_ptr<train::Task> task = make_task(config, device, world);
  std::vector<std::string> report;
  world->in_main([&] { report = train::init_weights(config, resume, task->model()); });  // The Trainer shares them.
  train::Trainer trainer(config, *task, resume, world);
  for (const std::string& line : report) log::info(line);  // Now, so that the run's train.log has it.
  trainer.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto app =
      cli::make_app("vrwkv-train", "Trains a VRWKV classifier, or a masked autoencoder, as a configuration says.");
  cli::Flags flags;
  cli::add_flags(*app, flags);
  cli::add_overrides(*app, flags);
  std::string resume;
  app->add_option("--resume", resume, "Go on with a run: auto (its newest checkpoint; also without a value) or a file")
      ->type_name("[CKPT|auto]")
      ->default_str("a new run");
  bool synthetic = false;
  app->add_flag("--synthetic", synthetic, "Images made from numbers in place of data.train and data.val");
  const std::vector<std::string> arguments = with_resume_value(argc, argv);
  std::vector<const char*> pointers;
  for (const auto& argument : arguments) pointers.push_back(argument.c_str());
  return cli::run_main(*app, static_cast<int>(pointers.size()), pointers.data(),
                       [&] { return run(flags, resume.empty() ? std::nullopt : std::optional(resume), synthetic); });
}
