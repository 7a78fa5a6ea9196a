#pragma once

#include <string>
#include <vector>

#include "eval/eval_flags.h"

namespace vrwkv::eval {

/// vrwkv-eval: every checkpoint at every size, each printed as soon as it is known and written to the files that the
/// flags name. Throws UsageError or std::runtime_error.
void run_evaluations(EvalFlags flags);

}  // namespace vrwkv::eval
