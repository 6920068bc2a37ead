// The choice between our own attention and the library's.
#include "cuda/attention_choices.h"

#include <cstdio>

#include "cuda/attention_library.h"
#include "cuda/attention_trial.h"

namespace raylite::cuda {

namespace {

/// The library is taken when it is faster by more than what times vary by, so that equal runs choose alike.
constexpr double kWorthwhile = 0.95;
/// Both round weights and results to 16 bits: of bf16, some thousandths. What is masked or laid out otherwise differs by as much as the numbers are.
constexpr double kDifferenceMax = 0.03;

std::string owned(const char* path) { return path == nullptr ? "" : path; }
const char* path_or_null(const std::string& path) { return path.empty() ? nullptr : path.c_str(); }

std::string describe(const CudaAttentionShape& s) {
  std::string text = s.is_backward ? "gradient of attention" : "attention";
  text += s.type == DType::kBF16 ? ", bf16, " : ", f16, ";
  text += std::to_string(s.segments) + " x " + std::to_string(s.rows) + " rows, " + std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " heads of " +
          std::to_string(s.head_dim);
  if (s.causal) text += ", causal";
  if (s.window > 0) text += ", window " + std::to_string(s.window);
  return text + ": ";
}

/// "1.204 ms (412 TFLOP/s)"
std::string speed(const CudaAttentionShape& s, double ms) {
  const double keys = s.window > 0 && s.window < s.rows ? static_cast<double>(s.window) : static_cast<double>(s.rows) / (s.causal ? 2 : 1);
  const double flops = (s.is_backward ? 10.0 : 4.0) * static_cast<double>(s.segments * s.rows * s.heads * s.head_dim) * keys;
  char text[80];
  std::snprintf(text, sizeof(text), "%.3f ms (%.0f TFLOP/s)", ms, flops / ms / 1e9);
  return text;
}

}  // namespace

AttentionChoices::AttentionChoices(const CudaLibraries& libraries)
    : by_(libraries.attention),
      cudnn_(owned(libraries.cudnn)),
      cudart_(owned(libraries.cudart)),
      nvrtc_(owned(libraries.nvrtc)),
      nvrtc_builtins_(owned(libraries.nvrtc_builtins)) {}

AttentionChoices::~AttentionChoices() = default;

bool AttentionChoices::open() {
  if (library_ || !missing_.empty()) return library_ != nullptr;
  CudaLibraries paths{};
  paths.cudnn = path_or_null(cudnn_), paths.cudart = path_or_null(cudart_);
  paths.nvrtc = path_or_null(nvrtc_), paths.nvrtc_builtins = path_or_null(nvrtc_builtins_);
  std::string missing;
  try {
    library_ = open_library_attention(paths);
  } catch (const EngineError& error) {
    missing = error.what();
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  missing_ = missing;
  return library_ != nullptr;
}

unsigned char* AttentionChoices::reserve(std::size_t bytes) {
  if (scratch_.empty() || scratch_.back().first < bytes) scratch_.emplace_back(bytes, std::make_unique<DeviceBytes>(bytes));
  return scratch_.back().second->as<unsigned char>();
}

AttentionChoices::Choice AttentionChoices::decide(const CudaAttentionShape& shape, const Queue& queue) {
  const std::string what = describe(shape);
  try {
    unsigned char* scratch = reserve(stats_bytes(shape) + library_->prepare(shape));
    if (by_ == AttentionBy::kLibrary) return {true, scratch, what + library_->name() + ", as asked for"};
    const AttentionTrial trial = try_attention(*library_, shape, scratch, queue);
    if (!(trial.difference <= kDifferenceMax)) {
      return {false, nullptr, what + "own kernels: the numbers of " + library_->name() + " differ from theirs by " + std::to_string(trial.difference)};
    }
    const bool is_library = trial.library_ms < kWorthwhile * trial.own_ms;
    const std::string own = "own kernels " + speed(shape, trial.own_ms), library = library_->name() + " " + speed(shape, trial.library_ms);
    return {is_library, scratch, what + (is_library ? library + ", not " + own : own + ", not " + library)};
  } catch (const EngineError& error) {
    cudaGetLastError();  // a lack of memory is no failure of what follows
    return {false, nullptr, what + "own kernels: " + error.what()};
  }
}

void AttentionChoices::choose(const CudaAttentionShape& shape, const Queue& queue) {
  if (known_.count(shape) > 0 || !open()) return;
  Choice choice = decide(shape, queue);
  const std::lock_guard<std::mutex> lock(mutex_);
  known_.emplace(shape, std::move(choice));
}

AttentionChoices::Library AttentionChoices::find(const CudaAttentionShape& shape) const {
  const auto found = known_.find(shape);
  if (found == known_.end() || !found->second.is_library) return {};
  return {library_.get(), found->second.scratch};
}

std::vector<std::string> AttentionChoices::lines() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::string> lines;
  if (!missing_.empty()) lines.push_back("attention: own kernels: " + missing_);
  for (const auto& [shape, choice] : known_) lines.push_back(choice.line);
  return lines;
}

}  // namespace raylite::cuda
