// Who makes attention: our own kernels or NVIDIA's library, chosen for each shape before the first run that has it.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/handles.h"
#include "cuda/library_attention.h"
#include "cuda/queue.h"

namespace raylite::cuda {

class AttentionChoices {
 public:
  /// The library, for a shape that it makes; null where our own kernels do.
  struct Library {
    LibraryAttention* attention = nullptr;
    unsigned char* scratch = nullptr;
  };

  explicit AttentionChoices(const CudaLibraries& libraries);
  ~AttentionChoices();

  bool may_choose() const { return by_ != AttentionBy::kOwn; }
  /// Opens the library at the first call, makes its plan, and (unless one of the two is asked for) holds its numbers against those of our own kernels
  /// and takes the time of both, on memory of its own. Waits. Whatever goes wrong leaves our own kernels.
  void choose(const CudaAttentionShape& shape, const Queue& queue);
  Library find(const CudaAttentionShape& shape) const;
  /// A line for each shape, and for a library that is not there. From any thread.
  std::vector<std::string> lines() const;

 private:
  struct Choice {
    bool is_library;
    unsigned char* scratch;
    std::string line;
  };
  Choice decide(const CudaAttentionShape& shape, const Queue& queue);
  /// Whether the library is there.
  bool open();
  /// Memory that stays where it is: graphs point at it.
  unsigned char* reserve(std::size_t bytes);

  const AttentionBy by_;
  const std::string cudnn_, cudart_, nvrtc_, nvrtc_builtins_;
  std::unique_ptr<LibraryAttention> library_;
  std::string missing_;  // why there is no library
  std::vector<std::pair<std::size_t, std::unique_ptr<DeviceBytes>>> scratch_;  // the largest is the last
  mutable std::mutex mutex_;  // of what lines() reads
  std::map<CudaAttentionShape, Choice> known_;
};

}  // namespace raylite::cuda
