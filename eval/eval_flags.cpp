#include "eval/eval_flags.h"

#include "cli/output.h"
#include "common/errors.h"

namespace vrwkv::eval {

void add_eval_flags(CLI::App& app, EvalFlags& flags) {
  const auto file = [&app](const char* name, std::string& target, const char* about) {
    app.add_option(name, target, about)->type_name("FILE")->default_str("none");
  };
  cli::add_flags(app, flags);
  app.add_option("--checkpoint", flags.checkpoints,
                 "Weights to evaluate, .safetensors or .pth; several one after another")
      ->required()
      ->allow_extra_args(false)
      ->type_name("FILE");
  cli::add_weights_flag(app, flags.weights);
  app.add_option("--batch-size", flags.batch_size, "Images at once")
      ->type_name("N")
      ->default_str("eval.batch_size of CONFIG")
      ->check(cli::positive_integer());
  app.add_option("--sizes", flags.sizes, "Sides of the input in pixels, such as 224,384, one after another")
      ->type_name("N,…")
      ->default_str("data.eval_transform.size of CONFIG")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(cli::positive_integer());
  app.add_option("--crop-ratio", flags.crop_ratio, "Side of the crop over the short side of the resized image")
      ->type_name("R")
      ->default_str("eval_transform.size / resize of CONFIG")
      ->check(CLI::Range(0.05, 1.0).description(""));
  app.add_option("--tta", flags.tta,
                 "Test-time augmentation; flip: the mean of an image's and its mirror image's probabilities")
      ->type_name("flip")
      ->default_str("none")
      ->check(CLI::IsMember({"flip"}).description(""));
  file("--labels", flags.labels, "Which classes are right for which images, JSON; see docs/evaluation.md");
  app.add_flag("--per-class", flags.per_class, "Also the accuracy of each class");
  file("--json", flags.json, "Write exact counts as JSON; - for stdout, the text then goes to stderr");
  file("--csv", flags.csv, "Write a line for each checkpoint and size");
  file("--plot", flags.plot, "Draw top-1 over the size, one line for each checkpoint, .png");
  file("--per-class-csv", flags.per_class_csv, "Write the accuracy of each class, .csv, and draw it as .png");
  file("--confusion", flags.confusion, "Write what each class was taken for, .csv, and draw it as .png");
  cli::add_overrides(app, flags);
}

void check_eval_flags(const EvalFlags& flags, bool writes) {
  const bool several = flags.checkpoints.size() > 1 || flags.sizes.size() > 1;
  const std::pair<const char*, bool> single[] = {{"--per-class", flags.per_class},
                                                 {"--per-class-csv", !flags.per_class_csv.empty()},
                                                 {"--confusion", !flags.confusion.empty()}};
  for (const auto& [name, given] : single) {
    if (given && several) throw UsageError(std::string(name) + " is for one --checkpoint and one size");
  }
  if (!flags.plot.empty() && flags.sizes.size() < 2) throw UsageError("--plot needs two --sizes or more");
  const std::tuple<const char*, const std::string&, std::string> files[] = {
      {"--json", flags.json, ""},
      {"--csv", flags.csv, ""},
      {"--plot", flags.plot, ".png"},
      {"--per-class-csv", flags.per_class_csv, ".csv"},
      {"--confusion", flags.confusion, ".csv"}};
  for (const auto& [name, target, ending] : files) {
    if (!target.empty() && !target.ends_with(ending)) {
      throw UsageError(std::string(name) + ": expected a file that ends in " + ending + ", got " + target);
    }
    if (writes) cli::check_output(name, target);
  }
}

}  // namespace vrwkv::eval
