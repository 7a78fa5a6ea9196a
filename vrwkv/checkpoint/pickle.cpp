#include "vrwkv/checkpoint/pickle.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <iomanip>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <unordered_map>

namespace vrwkv {

/// The stack machine that a pickle is a program for (Python's pickletools lists the opcodes).
class PickleMachine {
 public:
  using Kind = Pickle::Kind;
  using Value = Pickle::Value;

  PickleMachine(std::span<const uint8_t> bytes, std::vector<Value>& values) : bytes_(bytes), values_(values) {}

  /// Runs to the STOP opcode and returns the index of what it leaves.
  size_t run() {
    for (;;) {
      start_ = position_;
      const uint8_t opcode = byte();
      if (opcode == '.') return pop();
      if (!run_atom(opcode) && !run_container(opcode) && !run_object(opcode) && !run_memo(opcode)) {
        std::ostringstream text;
        text << "the opcode 0x" << std::hex << std::setw(2) << std::setfill('0') << int{opcode} << " is not known";
        fail(text.str());
      }
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("damaged pickle at byte " + std::to_string(start_) + ": " + what);
  }

  // Input.

  std::span<const uint8_t> take(uint64_t count) {
    if (count > bytes_.size() - position_) {
      fail(std::to_string(count) + " bytes expected, " + std::to_string(bytes_.size() - position_) + " are left");
    }
    const auto part = bytes_.subspan(position_, count);
    position_ += count;
    return part;
  }
  uint8_t byte() { return take(1)[0]; }
  /// A little-endian number of `size` bytes.
  uint64_t number(size_t size) {
    uint64_t value = 0;
    const auto part = take(size);
    for (size_t i = 0; i < size; ++i) value |= uint64_t{part[i]} << (8 * i);
    return value;
  }
  std::string string(uint64_t count) {
    const auto part = take(count);
    return {part.begin(), part.end()};
  }
  /// Up to the end of the line, which is skipped.
  std::string line() {
    std::string text;
    for (uint8_t next = byte(); next != '\n'; next = byte()) text.push_back(static_cast<char>(next));
    return text;
  }

  // Values and the stack.

  size_t make(Value value) {
    values_.push_back(std::move(value));
    return values_.size() - 1;
  }
  void push(Value value) { stack_.push_back(make(std::move(value))); }
  void push_text(Kind kind, std::string text) { push({.kind = kind, .text = std::move(text)}); }
  void push_items(Kind kind, std::vector<size_t> items) { push({.kind = kind, .items = std::move(items)}); }
  /// Items above the last mark, or of the whole stack without one.
  size_t available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  size_t pop() {
    if (available() == 0) fail("the stack is empty");
    const size_t top = stack_.back();
    stack_.pop_back();
    return top;
  }
  std::vector<size_t> pop_several(size_t count) {
    if (available() < count) fail("the stack is too short");
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<size_t> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    return items;
  }
  std::vector<size_t> pop_to_mark() {
    if (marks_.empty()) fail("a mark is missing");
    std::vector<size_t> items = pop_several(available());
    marks_.pop_back();
    return items;
  }
  Value& top() {
    if (available() == 0) fail("the stack is empty");
    return values_[stack_.back()];
  }

  /// Adds to the container on top; to an object of a class, which may be anything, nothing.
  void add(Kind kind, const std::vector<size_t>& items) {
    Value& target = top();
    if (target.kind == Kind::call || target.kind == Kind::other) return;
    if (target.kind != kind) fail("items are added to something else than they belong to");
    if (kind == Kind::dict && items.size() % 2 != 0) fail("a dict has a key without a value");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  void push_integer(int64_t value) { push({.kind = Kind::integer, .integer = value}); }
  /// Two's complement, little-endian.
  void push_long(std::span<const uint8_t> digits) {
    if (digits.size() > 8) return push({.kind = Kind::other});
    uint64_t value = !digits.empty() && digits.back() >= 0x80 ? ~uint64_t{0} : 0;
    for (size_t i = 0; i < digits.size(); ++i) {
      value &= ~(uint64_t{0xff} << (8 * i));
      value |= uint64_t{digits[i]} << (8 * i);
    }
    push_integer(static_cast<int64_t>(value));
  }
  void push_decimal(std::string text) {
    if (text.ends_with('L')) text.pop_back();
    if (text == "00" || text == "01") return push({.kind = Kind::boolean, .integer = text == "01"});
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc::result_out_of_range) return push({.kind = Kind::other});
    if (error != std::errc() || end != text.data() + text.size()) fail("'" + text + "' is not an integer");
    push_integer(value);
  }
  void push_decimal_real(const std::string& text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc::invalid_argument || end != text.data() + text.size()) fail("'" + text + "' is no number");
    push({.kind = Kind::real, .real = value});
  }

  /// Numbers, texts, and other values without parts.
  bool run_atom(uint8_t opcode) {
    switch (opcode) {
      case 'N':
        push({});
        return true;
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        push({.kind = Kind::boolean, .integer = opcode == 0x88});
        return true;
      case 'K':
        push_integer(byte());
        return true;
      case 'M':
        push_integer(static_cast<int64_t>(number(2)));
        return true;
      case 'J':
        push_integer(static_cast<int32_t>(number(4)));
        return true;
      case 0x8a:  // LONG1
        push_long(take(byte()));
        return true;
      case 0x8b:  // LONG4
        push_long(take(number(4)));
        return true;
      case 'I':
      case 'L':
        push_decimal(line());
        return true;
      case 'F':
        push_decimal_real(line());
        return true;
      case 'G': {  // Big-endian, unlike everything else.
        uint64_t bits = 0;
        for (const uint8_t part : take(8)) bits = bits << 8 | part;
        push({.kind = Kind::real, .real = std::bit_cast<double>(bits)});
        return true;
      }
      case 'V':
      case 'S':
        push_text(opcode == 'V' ? Kind::text : Kind::bytes, line());
        return true;
      case 'X':
        push_text(Kind::text, string(number(4)));
        return true;
      case 0x8c:  // SHORT_BINUNICODE
        push_text(Kind::text, string(byte()));
        return true;
      case 0x8d:  // BINUNICODE8
        push_text(Kind::text, string(number(8)));
        return true;
      case 'T':
      case 'B':
        push_text(opcode == 'T' ? Kind::text : Kind::bytes, string(number(4)));
        return true;
      case 'U':
      case 'C':
        push_text(opcode == 'U' ? Kind::text : Kind::bytes, string(byte()));
        return true;
      case 0x8e:  // BINBYTES8
      case 0x96:  // BYTEARRAY8
        push_text(Kind::bytes, string(number(8)));
        return true;
      default:
        return false;
    }
  }

  bool run_container(uint8_t opcode) {
    switch (opcode) {
      case ']':
      case 0x8f:  // EMPTY_SET
        push_items(Kind::list, {});
        return true;
      case '}':
        push_items(Kind::dict, {});
        return true;
      case ')':
        push_items(Kind::tuple, {});
        return true;
      case 0x85:  // TUPLE1 … TUPLE3
      case 0x86:
      case 0x87:
        push_items(Kind::tuple, pop_several(static_cast<size_t>(opcode - 0x84)));
        return true;
      case 't':
        push_items(Kind::tuple, pop_to_mark());
        return true;
      case 'l':
      case 0x91:  // FROZENSET
        push_items(Kind::list, pop_to_mark());
        return true;
      case 'd': {
        const auto items = pop_to_mark();
        push_items(Kind::dict, {});
        add(Kind::dict, items);
        return true;
      }
      case 'a':
        add(Kind::list, pop_several(1));
        return true;
      case 'e':
      case 0x90:  // ADDITEMS
        add(Kind::list, pop_to_mark());
        return true;
      case 's':
        add(Kind::dict, pop_several(2));
        return true;
      case 'u':
        add(Kind::dict, pop_to_mark());
        return true;
      default:
        return false;
    }
  }

  /// What Python would make by calling `callable` with the tuple `arguments`.
  void push_call(size_t callable, size_t arguments) {
    const Value& function = values_[callable];
    if (function.kind == Kind::global &&
        (function.text == "collections OrderedDict" || function.text == "collections defaultdict")) {
      return push_items(Kind::dict, {});
    }
    push_items(Kind::call, {callable, arguments});
  }

  /// A text can be named as a module again and again: what comes of it all together must stay in proportion.
  void push_global(const Value& module, const Value& name) {
    constexpr size_t kMaxGrowth = 10;
    if (module.kind != Kind::text || name.kind != Kind::text) fail("a class is named by something else than texts");
    global_bytes_ += module.text.size() + name.text.size();
    if (global_bytes_ > kMaxGrowth * bytes_.size())
      fail("the names of its classes are longer than any pickle has them");
    push_text(Kind::global, module.text + " " + name.text);
  }

  bool run_object(uint8_t opcode) {
    switch (opcode) {
      case 'c': {
        const std::string module = line();
        push_text(Kind::global, module + " " + line());
        return true;
      }
      case 0x93: {  // STACK_GLOBAL
        const auto parts = pop_several(2);
        push_global(values_[parts[0]], values_[parts[1]]);
        return true;
      }
      case 'R':
      case 0x81: {  // NEWOBJ
        const auto parts = pop_several(2);
        push_call(parts[0], parts[1]);
        return true;
      }
      case 0x92: {  // NEWOBJ_EX: with keyword arguments
        const auto parts = pop_several(3);
        push_call(parts[0], parts[1]);
        return true;
      }
      case 'b':  // The state of an object: of no interest.
        pop();
        top();
        return true;
      case 'P':
        push_items(Kind::persistent, {make({.kind = Kind::text, .text = line()})});
        return true;
      case 'Q':
        push_items(Kind::persistent, pop_several(1));
        return true;
      default:
        return false;
    }
  }

  void put(uint64_t key) {
    top();
    memo_[key] = stack_.back();
  }
  void get(uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail("the memo has no entry " + std::to_string(key));
    stack_.push_back(found->second);
  }
  uint64_t line_number() {
    const std::string text = line();
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) fail("'" + text + "' is no place of the memo");
    return value;
  }

  /// The stack, the memo and the frame.
  bool run_memo(uint8_t opcode) {
    switch (opcode) {
      case 0x80:  // PROTO
        if (byte() > 5) fail("protocols up to 5 are known");
        return true;
      case 0x95:  // FRAME: its length
        take(8);
        return true;
      case '(':
        marks_.push_back(stack_.size());
        return true;
      case '0':
        pop();
        return true;
      case '1':
        pop_to_mark();
        return true;
      case '2':
        top();
        stack_.push_back(stack_.back());
        return true;
      case 'q':
        put(byte());
        return true;
      case 'r':
        put(number(4));
        return true;
      case 'p':
        put(line_number());
        return true;
      case 0x94:  // MEMOIZE
        put(memo_.size());
        return true;
      case 'h':
        get(byte());
        return true;
      case 'j':
        get(number(4));
        return true;
      case 'g':
        get(line_number());
        return true;
      default:
        return false;
    }
  }

  std::span<const uint8_t> bytes_;
  std::vector<Value>& values_;
  size_t position_ = 0, start_ = 0;
  size_t global_bytes_ = 0;  ///< Of all that push_global() made.
  std::vector<size_t> stack_, marks_;
  std::unordered_map<uint64_t, size_t> memo_;
};

Pickle::Pickle(std::span<const uint8_t> bytes) { root_ = PickleMachine(bytes, values_).run(); }

const Pickle::Value* Pickle::find(const Value& dict, const std::string& key) const {
  if (dict.kind != Kind::dict) return nullptr;
  const Value* found = nullptr;
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const Value& candidate = values_[dict.items[i]];
    if (candidate.kind == Kind::text && candidate.text == key) found = &values_[dict.items[i + 1]];  // The last wins.
  }
  return found;
}

}  // namespace vrwkv
