#include <iostream>

#include "cli/flags.h"
#include "cli/run_main.h"
#include "tools/convert.h"

int main(int argc, char** argv) {
  using namespace vrwkv;
  const auto app = cli::make_app(
      "vrwkv-convert",
      "Converts weights between .safetensors and PyTorch's .pth: training checkpoints of ours, published checkpoints.");
  tools::ConvertOptions options;
  app->add_option("IN", options.input, "A checkpoint: .safetensors or .pth")->required();
  app->add_option("OUT", options.output, "What to write; its ending, .safetensors, .pth or .pt, says in which format")
      ->required();
  cli::add_weights_flag(*app, options.weights);
  const std::map<std::string, at::ScalarType> dtypes{
      {"float64", at::kDouble}, {"float32", at::kFloat}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16}};
  CLI::Transformer by_name(dtypes);
  by_name.description("");
  app->add_option("--dtype", options.dtype, "Round floating point tensors to float64, float32, float16 or bfloat16")
      ->type_name("NAME")
      ->default_str("as they are")
      ->transform(by_name);
  return cli::run_main(*app, argc, argv, [&] {
    std::cout << tools::convert(options) << "\n";
    return cli::kSuccess;
  });
}
