#pragma once

#include <string>
#include <vector>

#include "eval/load_classifier.h"

namespace vrwkv::eval {

/// One of an image's most probable classes.
struct Candidate {
  int64_t label;
  std::string name;
  double probability;
};

/// What the network saw of an image file and said of it.
struct Prediction {
  std::string path;
  at::Tensor input;                   ///< float32 or float64 [3, S, S], normalised, on the CPU.
  std::vector<Candidate> candidates;  ///< Most probable first.
};

/// Reads one image file, applies the evaluation transform, and gives the `top_k` most probable classes (all of them when
/// there are fewer). Names come from loaded.classes, otherwise `class 17`. Throws std::runtime_error naming the file.
Prediction predict_image(LoadedClassifier& loaded, const std::string& path, int64_t top_k, const config::RunConfig& config,
                         const Precision& precision);

/// `path` and one aligned line for each candidate.
std::string to_text(const Prediction& prediction);
std::string to_json(const std::vector<Prediction>& predictions);

/// Writes the inputs keyed by file name: the base name, or the path as given where two images share one.
void save_inputs(const std::string& file, const std::vector<Prediction>& predictions);

/// Reads tensor `input` [B, 3, H, W] from one safetensors file and writes `logits` [B, classes] to another.
void predict_file(LoadedClassifier& loaded, const std::string& input, const std::string& output,
                  const Precision& precision);

}  // namespace vrwkv::eval
