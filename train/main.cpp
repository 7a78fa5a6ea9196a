#include <iostream>

#include "cli/device.h"
#include "cli/flags.h"
#include "cli/run_main.h"
#include "train/classification_task.h"
#include "train/trainer.h"

namespace {

using namespace vrwkv;

int run(const cli::Flags& flags, const std::optional<std::string>& resume) {
  const config::RunConfig config = cli::load_config(flags);
  const at::Device device = cli::prepare_device(config.run);
  train::ClassificationTask task(config, device);
  train::Trainer(config, task, resume).run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto app = cli::make_app("vrwkv-train", "Trains a VRWKV classifier as a configuration says.");
  cli::Flags flags;
  cli::add_flags(*app, flags);
  cli::add_overrides(*app, flags);
  std::string resume = "auto";
  const CLI::Option* resume_flag = app->add_flag(
      "--resume{auto}", resume,
      "Go on with the run: --resume for its newest checkpoint, --resume=FILE for another; default: a new run");
  return cli::run_main(*app, argc, argv,
                       [&] { return run(flags, resume_flag->count() > 0 ? std::optional(resume) : std::nullopt); });
}
