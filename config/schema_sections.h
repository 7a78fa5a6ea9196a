#pragma once

#include "config/schema.h"

namespace vrwkv::config {

/// The section `data`, bound to `data`'s members.
Section data_section(data::DataOptions& data);

/// The section `train`, bound to `train`'s members.
Section train_section(TrainOptions& train);

}  // namespace vrwkv::config
