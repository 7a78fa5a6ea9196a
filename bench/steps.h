#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "distributed/options.h"
#include "distributed/world.h"
#include "eval/precision.h"

namespace vrwkv::bench {

/// A network and its input, as `vrwkv-bench model` and `train` measure it.
struct NetworkCase {
  std::string variant;  ///< As variant_options() knows it.
  int64_t image_size = 0, batch = 0;

  std::string text() const;  ///< "tiny:224:256"
};

/// One repetition of what is measured; it holds all that it needs and is called again and again, on the thread that
/// made it. On a GPU it only enqueues.
using Step = std::function<void()>;

/// How a case becomes a step.
using StepFactory = std::function<Step(const NetworkCase&, const eval::Precision&)>;

/// Logits of a batch of random images, already normalised and on the device, without gradients. Autocast, when
/// `precision` asks for it, stays on as long as the step lives, as the evaluator holds it: weights are cast once.
Step make_model_step(const NetworkCase& network, const eval::Precision& precision);

/// The trainer's step on random images and labels on the device: forward, cross-entropy with label smoothing, backward,
/// gradient clipping and AdamW, with the published options. Drop path is off. With `world`, gradients are averaged over
/// its processes; all must then take the same number of steps.
Step make_train_step(const NetworkCase& network, const eval::Precision& precision, distributed::World* world = nullptr,
                     const distributed::Options& options = {});

}  // namespace vrwkv::bench
