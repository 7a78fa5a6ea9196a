#include "cli/flags.h"
#include "cli/output.h"
#include "cli/run_main.h"
#include "common/errors.h"
#include "common/log.h"
#include "config/text.h"
#include "data/image_codec.h"
#include "data/read_image.h"
#include "tools/augment_operation.h"
#include "tools/augment_sheet.h"

namespace {

using namespace vrwkv;

struct AugmentFlags {
  std::vector<std::string> arguments;
  std::string out, operation, seed;
  std::string views = "8";
};

at::Tensor draw_operation(const AugmentFlags& flags) {
  if (flags.arguments.size() != 1) {
    throw UsageError("--op is applied to one image, got " + std::to_string(flags.arguments.size()) +
                     " arguments; write --op " + flags.operation + " IMAGE --out FILE.png");
  }
  return tools::apply_operation(flags.operation, data::read_image(flags.arguments.front()));
}

at::Tensor draw_sheet(const AugmentFlags& flags) {
  cli::Flags files;
  std::vector<std::string> paths;
  for (const std::string& argument : flags.arguments) {
    (cli::is_override(argument) ? files.overrides : paths).push_back(argument);
  }
  if (paths.size() < 2) {
    throw UsageError("a configuration and at least one image are needed; see --help");
  }
  files.config = paths.front();
  if (!flags.seed.empty()) files.overrides.push_back("run.seed=" + flags.seed);
  const config::RunConfig config = cli::load_config(files);
  std::vector<at::Tensor> images;
  for (std::size_t i = 1; i < paths.size(); ++i) images.push_back(data::read_image(paths[i]));
  return tools::augment_sheet(images, config.data, *config::parse_integer(flags.views),
                              static_cast<std::uint64_t>(config.run.seed));
}

int augment(const AugmentFlags& flags) {
  cli::check_output("--out", flags.out);
  const at::Tensor image = flags.operation.empty() ? draw_sheet(flags) : draw_operation(flags);
  const std::vector<std::uint8_t> png = data::encode_png(image);
  cli::write_output(flags.out, std::string(png.begin(), png.end()));
  if (flags.out != "-") log::info(flags.out + " written");
  return cli::kSuccess;
}

}  // namespace

int main(int argc, char** argv) {
  const auto app =
      cli::make_app("vrwkv-augment", "Draws training views of images as a configuration makes them, or one operation.");
  AugmentFlags flags;
  app->add_option("CONFIG", flags.arguments,
                  "Configuration file, then JPEG or PNG files; also key.path=value, to replace values of CONFIG. With "
                  "--op: one JPEG or PNG file alone")
      ->required()
      ->type_name("IMAGE");
  app->add_option("--out", flags.out, "The PNG to write; - for stdout")->required()->type_name("FILE");
  CLI::Option* views = app->add_option("--views", flags.views, "Views drawn of each image")->type_name("N");
  CLI::Option* seed = app->add_option("--seed", flags.seed, "Seed of what is drawn");
  views->check(cli::positive_integer());
  seed->type_name("N")->default_str("run.seed of CONFIG");
  app->add_option("--op", flags.operation, "Apply one operation: rotate=27, auto_contrast, …")
      ->type_name("NAME=VALUE")
      ->default_str("none")
      ->excludes(views)
      ->excludes(seed);
  return cli::run_main(*app, argc, argv, [&] { return augment(flags); });
}
