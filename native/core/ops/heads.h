// Shared by the contracts of the ops that address heads inside rows.
#pragma once
#include <string>

#include "core/binder.h"
#include "core/ops/attention.h"

namespace raylite {

constexpr std::int64_t kColumnsMax = std::int64_t{1} << 31;

/// Takes the attributes <x>Offset and <x>HeadStride. `width` is filled by the caller.
inline HeadLayout take_layout(Binder& in, const char* offset, const char* head_stride) {
  HeadLayout layout{};
  layout.offset = in.integer(offset, 0, kColumnsMax);
  layout.head_stride = in.integer(head_stride, 0, kColumnsMax);
  return layout;
}

/// Every head must lie inside the row, and heads must not overlap.
inline void check_layout(const Binder& in, const char* name, const HeadLayout& layout, std::int64_t heads,
                         std::int64_t head_dim) {
  if (heads > 1 && layout.head_stride < head_dim) {
    in.fail_shape(std::string("heads of ") + name + " overlap: head stride " + std::to_string(layout.head_stride) +
                  ", head dim " + std::to_string(head_dim));
  }
  const std::int64_t end = layout.offset + (heads - 1) * layout.head_stride + head_dim;
  if (end > layout.width) {
    in.fail_shape(std::string("heads of ") + name + " end at column " + std::to_string(end) + " of " +
                  std::to_string(layout.width));
  }
}

}  // namespace raylite
