#include "bench/commands.h"
#include "cli/flags.h"
#include "cli/run_main.h"

int main(int argc, char** argv) {
  using namespace vrwkv;
  const auto app = cli::make_app("vrwkv-bench", "Measures the operators and the models: time, bandwidth and memory.");
  app->require_subcommand(1);

  bench::OpsFlags ops_flags;
  CLI::App* ops = app->add_subcommand("ops", "Operators, forward and backward, against the bandwidth of a copy");
  bench::add_ops_flags(*ops, ops_flags);

  bench::NetworkFlags model_flags;
  CLI::App* model = app->add_subcommand("model", "Inference of whole models: images/s and memory");
  bench::add_network_flags(*model, model_flags);

  bench::NetworkFlags train_flags;
  CLI::App* train =
      app->add_subcommand("train", "Training steps of whole models on random images: images/s and memory");
  bench::add_network_flags(*train, train_flags);

  bench::ScalingFlags scaling_flags;
  CLI::App* scaling = app->add_subcommand(
      "scaling",
      "Training steps in several processes, one a GPU: what averaging the gradients costs (run it by torchrun)");
  bench::add_scaling_flags(*scaling, scaling_flags);

  bench::DataFlags data_flags;
  CLI::App* data = app->add_subcommand("data", "Reading, decoding and augmenting the images of a configuration");
  bench::add_data_flags(*data, data_flags);

  return cli::run_main(*app, argc, argv, [&] {
    if (*ops) return bench::run_ops(ops_flags);
    if (*model) return bench::run_networks("model", model_flags, bench::make_model_step);
    if (*data) return bench::run_data(data_flags);
    if (*scaling) return bench::run_scaling(scaling_flags);
    return bench::run_networks("train", train_flags, [](const auto& network, const auto& precision) {
      return bench::make_train_step(network, precision);
    });
  });
}
