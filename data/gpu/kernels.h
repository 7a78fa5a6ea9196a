#pragma once

#include <cuda_runtime_api.h>

#include "data/gpu/image_operation.h"
#include "data/gpu/resample.h"

// The launches. Pointers are to memory of the current device; nothing is checked but the launch (c10::Error).
namespace vrwkv::data::gpu {

/// The views of `tasks`, all of one size; max_height: of their boxes.
void launch_resize(const ViewTask* tasks, int count, int max_height, int size, cudaStream_t stream);

/// The operations of `tasks` on images of size x size; for each the image is in task.pixels at first and moves to
/// task.other as augment_image() says.
void launch_augment(const ImageTask* tasks, const ImageOperation* operations, int count, int size, cudaStream_t stream);

}  // namespace vrwkv::data::gpu
