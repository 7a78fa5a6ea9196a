#include "cli/flags.h"
#include "cli/run_main.h"
#include "eval/eval_command.h"

int main(int argc, char** argv) {
  using namespace vrwkv;
  const auto app = cli::make_app("vrwkv-eval", "Measures the accuracy of checkpoints on data.val of a configuration.");
  eval::EvalFlags flags;
  eval::add_eval_flags(*app, flags);
  return cli::run_main(*app, argc, argv, [&] {
    eval::run_evaluations(flags);
    return cli::kSuccess;
  });
}
