#pragma once

#include <array>
#include <csetjmp>
#include <cstddef>
#include <cstdio>

// jpeglib.h needs FILE and size_t declared before it.
#include <jpeglib.h>

namespace vrwkv::data {

/// Where libjpeg's errors go: a jump back to the call. libjpeg hands `base` to the call-backs, so it comes first.
struct JpegErrorState {
  jpeg_error_mgr base{};
  std::jmp_buf jump{};
  std::array<char, JMSG_LENGTH_MAX> message{};
};

/// An error_exit: keeps the message and jumps.
[[noreturn]] inline void jump_on_jpeg_error(j_common_ptr info) {
  auto* state = reinterpret_cast<JpegErrorState*>(info->err);
  info->err->format_message(info, state->message.data());
  std::longjmp(state->jump, 1);
}

}  // namespace vrwkv::data
