#include "config/problems.h"

#include <algorithm>
#include <tuple>

#include "common/errors.h"

namespace vrwkv::config {

void Problems::throw_if_any() const {
  if (found_.empty()) return;
  std::vector<Problem> ordered = found_;
  std::stable_sort(ordered.begin(), ordered.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.where.source, a.where.line) < std::tie(b.where.source, b.where.line);
  });
  std::string text;
  for (const Problem& problem : ordered) {
    if (!text.empty()) text += "\n";
    text += problem.where.text() + ": " + problem.message;
  }
  throw UsageError(text);
}

}  // namespace vrwkv::config
