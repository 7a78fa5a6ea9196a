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

void check_view(const at::Tensor& view, int64_t size, const std::string& name) {
  if (view.scalar_type() != at::kByte || view.sizes() != at::IntArrayRef{size, size, 3} || !view.is_contiguous()) {
    std::ostringstream text;
    text << name << ": the transform must return contiguous uint8 [" << size << ", " << size << ", 3], got "
         << view.scalar_type() << " " << view.sizes();
    throw std::logic_error(text.str());
  }
}

LoadedSample load_one(const Dataset& dataset, int64_t view, const Transform& transform, std::uint64_t seed,
                      int64_t epoch) {
  const int64_t index = view % dataset.size();
  const EncodedSample sample = dataset.get(index);
  Generator generator = transform_generator(seed, epoch, view);
  at::Tensor image;
  with_name(sample.name, [&] { image = transform.apply(ImageSource(sample.bytes), generator); });
  check_view(image, transform.size, sample.name);
  return {std::move(image), sample.label, index, view, sample.name, {}};
}

}  // namespace

void with_name(const std::string& name, const std::function<void()>& work) {
  try {
    work();
  } catch (const ImageError& error) {
    throw ImageError(name + ": " + error.what());
  } catch (const c10::Error& error) {
    throw std::runtime_error(name + ": " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw std::runtime_error(name + ": " + error.what());
  }
}

Generator transform_generator(std::uint64_t seed, int64_t epoch, int64_t view) {
  return {seed, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(view), RandomStream::transform};
}

std::vector<CorruptImage> load_readable(const Dataset& dataset, int64_t view, std::uint64_t seed, int64_t epoch,
                                        CorruptPolicy policy, const std::function<void(int64_t view)>& load) {
  Generator replacements(seed, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(view),
                         RandomStream::replacement);
  std::vector<CorruptImage> corrupt;
  int64_t candidate = view;
  while (true) {
    try {
      load(candidate);
      return corrupt;
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

LoadedSample load_sample(const Dataset& dataset, int64_t view, const Transform& transform, std::uint64_t seed,
                         int64_t epoch, CorruptPolicy policy) {
  LoadedSample loaded;
  std::vector<CorruptImage> corrupt = load_readable(dataset, view, seed, epoch, policy, [&](int64_t candidate) {
    loaded = load_one(dataset, candidate, transform, seed, epoch);
  });
  loaded.corrupt = std::move(corrupt);
  return loaded;
}

}  // namespace vrwkv::data
