// Runs a classifier that vrwkv-export has written, without this project but for its operators.
//   run_exported MODEL.pt LIBVRWKV_OPS.SO INPUT    INPUT: float32 numbers of one image [C, H, W], preprocessed
#include <dlfcn.h>
#include <torch/script.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 4) return std::cerr << "usage: run_exported MODEL.pt LIBVRWKV_OPS.SO INPUT\n", 2;
  if (dlopen(argv[2], RTLD_NOW | RTLD_GLOBAL) == nullptr) return std::cerr << dlerror() << "\n", 1;
  const torch::InferenceMode inference;
  torch::jit::Module model = torch::jit::load(argv[1]);
  // model.to(torch::kCUDA) to run on a GPU; then the images, too.

  std::ifstream file(argv[3], std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const auto numbers = static_cast<int64_t>(bytes.size() / sizeof(float));
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(numbers / 3.0)));
  const torch::Tensor images = torch::from_blob(bytes.data(), {1, 3, side, side}, torch::kFloat);

  const torch::Tensor probabilities = model.forward({images}).toTensor().softmax(1);
  const auto [values, classes] = probabilities[0].topk(5);
  for (int64_t i = 0; i < values.numel(); ++i) {
    std::cout << classes[i].item<int64_t>() << " " << values[i].item<float>() << "\n";
  }
}
