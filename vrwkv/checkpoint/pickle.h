#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace vrwkv {

/// What a pickle says, as data: nothing in it is imported, constructed or run. Objects of classes stay a record of how
/// Python would have made them.
class Pickle {
 public:
  enum class Kind {
    none,
    boolean,     ///< integer: 0 or 1
    integer,     ///< integer
    real,        ///< real
    text,        ///< text, UTF-8
    bytes,       ///< text
    list,        ///< items; also of sets
    tuple,       ///< items
    dict,        ///< items: key, value, key, value …; also collections.OrderedDict and defaultdict
    global,      ///< text: a class or function, "module name"
    call,        ///< items: what is called, its arguments (a tuple)
    persistent,  ///< items: the identifier of something outside of the pickle
    other,       ///< Known to be there, and no more: an integer of more than 64 bits.
  };

  struct Value {
    Kind kind = Kind::none;
    int64_t integer = 0;
    double real = 0;
    std::string text = {};
    std::vector<size_t> items = {};  ///< Indices of values; a value may be the item of several others, or of itself.
  };

  /// Reads protocols 0 to 5, as far as PyTorch's and Python's own picklers use them. Memory stays within a
  /// hundred times the input. Throws std::runtime_error that says at which byte what was wrong.
  explicit Pickle(std::span<const uint8_t> bytes);

  const Value& root() const { return values_[root_]; }
  const Value& operator[](size_t index) const { return values_[index]; }

  /// The value of `key` in a dict; null when there is none.
  const Value* find(const Value& dict, const std::string& key) const;

 private:
  std::vector<Value> values_;
  size_t root_ = 0;

  friend class PickleMachine;
};

}  // namespace vrwkv
