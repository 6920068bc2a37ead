// The op catalogue by name (ARCHITECTURE.md, "Op catalogue").
#pragma once
#include <string>
#include <vector>

#include "core/binder.h"
#include "core/kernels.h"

namespace raylite {

/// Takes an instruction's tensors and attributes, checks them against the op's contract, and returns what runs it.
using BindOp = Bound (*)(Binder& binder, const Kernels& kernels);

/// nullptr for an unknown name.
BindOp find_op(const std::string& name);
std::vector<std::string> op_names();

}  // namespace raylite
