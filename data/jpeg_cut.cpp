#include "data/jpeg_cut.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace vrwkv::data {
namespace {

using Bytes = std::span<const std::uint8_t>;

// The second byte of the markers of ITU T.81 that matter here.
constexpr int kBaseline = 0xC0, kExtended = 0xC1;  // Frames of Huffman coding in one pass.
constexpr int kRestart = 0xD0, kEndOfImage = 0xD9, kScan = 0xDA, kRestartInterval = 0xDD;
constexpr int kRestarts = 8;  // Numbered in turn.

constexpr int64_t kBlock = 8;

/// Colours of fewer pixels are interpolated between neighbours, at most as many pixels apart as a sampling factor.
constexpr int64_t kMargin = 4;

std::size_t size_of(int64_t value) { return static_cast<std::size_t>(value); }

int word(Bytes bytes, std::size_t at) { return bytes[at] << 8 | bytes[at + 1]; }

void set_word(std::vector<std::uint8_t>& bytes, std::size_t at, int64_t value) {
  bytes[at] = static_cast<std::uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<std::uint8_t>(value & 0xFF);
}

bool is_frame(int marker) {
  constexpr std::array<int, 3> kOthers{0xC4, 0xC8, 0xCC};  // Huffman tables, reserved, arithmetic conditioning.
  return marker >= 0xC0 && marker <= 0xCF && std::ranges::find(kOthers, marker) == kOthers.end();
}

/// What is known before the coded data.
struct Layout {
  std::size_t frame = 0;  ///< Of the size in the frame's header.
  std::size_t data = 0;   ///< Where the coded data begins.
  int64_t height = 0, width = 0;
  int64_t unit_height = 0, unit_width = 0;  ///< Pixels of the smallest coded unit (MCU).
  int64_t piece = 0;                        ///< Units between two restart markers.

  int64_t rows() const { return (height + unit_height - 1) / unit_height; }
  int64_t units() const { return (width + unit_width - 1) / unit_width; }
  int64_t pieces() const { return units() / piece; }  ///< Of a row.
};

/// Reads the header segment by segment; false where the image cannot be cut.
class HeaderReader {
 public:
  explicit HeaderReader(Bytes bytes) : bytes_(bytes) {}

  std::optional<Layout> read() {
    std::size_t at = 2;
    while (at + 4 <= bytes_.size() && bytes_[at] == 0xFF) {
      const int marker = bytes_[at + 1];
      const auto length = static_cast<std::size_t>(word(bytes_, at + 2));
      const std::size_t end = at + 2 + length;
      if (length < 2 || end > bytes_.size()) return std::nullopt;
      const Bytes segment = bytes_.subspan(at + 4, length - 2);
      if (is_frame(marker)) {
        if (components_ > 0 || (marker != kBaseline && marker != kExtended) || !read_frame(segment))
          return std::nullopt;
        layout_.frame = at + 5;
      } else if (marker == kRestartInterval) {
        if (segment.size() != 2) return std::nullopt;
        layout_.piece = word(segment, 0);
      } else if (marker == kScan) {
        layout_.data = end;
        return can_be_cut(segment) ? std::optional(layout_) : std::nullopt;
      }
      at = end;
    }
    return std::nullopt;
  }

 private:
  bool read_frame(Bytes segment) {
    constexpr std::size_t kFixed = 6, kComponent = 3;
    if (segment.size() < kFixed) return false;
    layout_.height = word(segment, 1);
    layout_.width = word(segment, 3);
    components_ = segment[5];
    if (segment[0] != 8 || (components_ != 1 && components_ != 3) ||
        segment.size() != kFixed + kComponent * static_cast<std::size_t>(components_)) {
      return false;
    }
    int across = 1, down = 1;
    // The only component of an image is coded block by block, whatever its sampling factors.
    for (std::size_t i = 0; components_ > 1 && i < static_cast<std::size_t>(components_); ++i) {
      const int sampling = segment[kFixed + kComponent * i + 1];
      across = std::max(across, sampling >> 4);
      down = std::max(down, sampling & 15);
    }
    layout_.unit_width = across * kBlock;
    layout_.unit_height = down * kBlock;
    return across <= kMargin && down <= kMargin;
  }

  bool can_be_cut(Bytes scan) const {
    return components_ > 0 && !scan.empty() && scan[0] == components_ && layout_.height > 0 && layout_.width > 0 &&
           layout_.piece > 0 && layout_.units() % layout_.piece == 0;
  }

  Bytes bytes_;
  Layout layout_;
  int components_ = 0;
};

/// Where pieces 0 ... count - 1 begin and end; fewer when the markers are not what they should be.
std::vector<Bytes> find_pieces(Bytes data, int64_t count) {
  std::vector<Bytes> pieces;
  pieces.reserve(size_of(count));
  std::size_t begin = 0, at = 0;
  while (std::ssize(pieces) < count) {
    const void* found = at < data.size() ? std::memchr(data.data() + at, 0xFF, data.size() - at) : nullptr;
    if (found == nullptr) break;
    at = static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) - data.data());
    if (at + 1 == data.size()) break;
    const int marker = data[at + 1];
    if (marker == 0) {  // A byte of data.
      at += 2;
      continue;
    }
    const bool expected = marker == kRestart + std::ssize(pieces) % kRestarts;
    if (!expected && marker != kEndOfImage) break;
    pieces.push_back(data.subspan(begin, at - begin));
    if (!expected) break;
    begin = at += 2;
  }
  return pieces;
}

/// Pieces or rows `first` ... `last` of a direction.
struct Range {
  int64_t first = 0, last = 0;
};

/// Those of `size` pixels each that hold pixels begin ... end - 1 with their margin.
Range range_of(int64_t begin, int64_t end, int64_t size, int64_t count) {
  return {std::max<int64_t>(0, begin - kMargin) / size, std::min(count - 1, (end - 1 + kMargin) / size)};
}

}  // namespace

std::optional<JpegCut> cut_jpeg(Bytes bytes, const Box& box) {
  const std::optional<Layout> layout = HeaderReader(bytes).read();
  if (!layout) return std::nullopt;
  const int64_t piece_width = layout->piece * layout->unit_width;
  const Range rows = range_of(box.top, box.top + box.height, layout->unit_height, layout->rows());
  const Range columns = range_of(box.left, box.left + box.width, piece_width, layout->pieces());
  const int64_t needed = rows.last * layout->pieces() + columns.last + 1;
  const std::vector<Bytes> pieces = find_pieces(bytes.subspan(layout->data), needed);
  if (std::ssize(pieces) < needed) return std::nullopt;

  const int64_t top = rows.first * layout->unit_height, left = columns.first * piece_width;
  JpegCut cut{{bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(layout->data)},
              {box.top - top, box.left - left, box.height, box.width}};
  set_word(cut.bytes, layout->frame, std::min(layout->height, (rows.last + 1) * layout->unit_height) - top);
  set_word(cut.bytes, layout->frame + 2, std::min(layout->width, (columns.last + 1) * piece_width) - left);
  int64_t number = 0;
  for (int64_t row = rows.first; row <= rows.last; ++row) {
    for (int64_t column = columns.first; column <= columns.last; ++column, ++number) {
      const Bytes piece = pieces[size_of(row * layout->pieces() + column)];
      cut.bytes.insert(cut.bytes.end(), piece.begin(), piece.end());
      cut.bytes.push_back(0xFF);
      cut.bytes.push_back(static_cast<std::uint8_t>(kRestart + number % kRestarts));
    }
  }
  cut.bytes.back() = static_cast<std::uint8_t>(kEndOfImage);
  return cut;
}

}  // namespace vrwkv::data
