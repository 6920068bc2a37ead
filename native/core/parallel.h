// Threads for one call outside of programs: loading and starting values.
#pragma once
#include <functional>

namespace raylite {

/// Calls work(0) … work(threads - 1) at once, the first on this thread, and waits for all. Throws what the first to fail threw.
void run_parallel(int threads, const std::function<void(int)>& work);

}  // namespace raylite
