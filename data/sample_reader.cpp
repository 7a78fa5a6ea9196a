#include "data/sample_reader.h"

#include <c10/util/Exception.h>

#include <sstream>
#include <stdexcept>
#include <utility>

#include "data/image_source.h"
#include "data/random.h"

namespace vrwkv::data {
namespace {

constexpr std::size_t kMaxReplacements = 64;

ImageSource open(const EncodedSample& sample) {
  try {
    return ImageSource(sample.bytes);
  } catch (const ImageError& error) {
    throw ImageError(sample.name + ": " + error.what());
  }
}

at::Tensor transformed(const EncodedSample& sample, const ImageSource& image, const Transform& transform,
                       Generator& generator) {
  at::Tensor view;
  try {
    view = transform.apply(image, generator);
  } catch (const ImageError& error) {
    throw ImageError(sample.name + ": " + error.what());
  } catch (const c10::Error& error) {
    throw std::runtime_error(sample.name + ": " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw std::runtime_error(sample.name + ": " + error.what());
  }
  if (view.scalar_type() != at::kByte || view.sizes() != at::IntArrayRef{transform.size, transform.size, 3} ||
      !view.is_contiguous()) {
    std::ostringstream text;
    text << sample.name << ": the transform must return contiguous uint8 [" << transform.size << ", " << transform.size
         << ", 3], got " << view.scalar_type() << " " << view.sizes();
    throw std::logic_error(text.str());
  }
  return view;
}

LoadedSample load_one(const Dataset& dataset, int64_t view, const Transform& transform, std::uint64_t seed,
                      int64_t epoch) {
  const int64_t index = view % dataset.size();
  const EncodedSample sample = dataset.get(index);
  Generator generator(seed, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(view),
                      RandomStream::transform);
  return {transformed(sample, open(sample), transform, generator), sample.label, index, view, sample.name, {}};
}

}  // namespace

LoadedSample load_sample(const Dataset& dataset, int64_t view, const Transform& transform, std::uint64_t seed,
                         int64_t epoch, CorruptPolicy policy) {
  Generator replacements(seed, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(view),
                         RandomStream::replacement);
  std::vector<CorruptImage> corrupt;
  int64_t candidate = view;
  while (true) {
    try {
      LoadedSample loaded = load_one(dataset, candidate, transform, seed, epoch);
      loaded.corrupt = std::move(corrupt);
      return loaded;
    } catch (const ImageError& error) {
      if (policy == CorruptPolicy::fail) {
        throw;
      }
      corrupt.push_back({candidate % dataset.size(), error.what()});
    }
    if (corrupt.size() > kMaxReplacements) {
      throw ImageError("no readable image in " + std::to_string(corrupt.size()) +
                       " tries; the last one: " + corrupt.back().message);
    }
    candidate = replacements.integer(dataset.size());
  }
}

}  // namespace vrwkv::data
