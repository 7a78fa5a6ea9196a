#include <iostream>

#include "cli/flags.h"
#include "cli/run_main.h"
#include "deploy/export.h"

int main(int argc, char** argv) {
  using namespace vrwkv;
  const auto app = cli::make_app("vrwkv-export",
                                 "Writes a classifier as a file that runs without this project: TorchScript or ONNX.");
  deploy::ExportFlags flags;
  deploy::add_export_flags(*app, flags);
  return cli::run_main(*app, argc, argv, [&] {
    std::cout << deploy::export_model(flags) << "\n";
    return cli::kSuccess;
  });
}
