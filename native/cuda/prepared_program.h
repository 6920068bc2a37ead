// A program as a GPU runs it: put on the streams once, then captured as a graph that every later run launches again.
#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "core/cuda_api.h"
#include "core/program.h"
#include "cuda/context.h"
#include "cuda/host_calls.h"
#include "cuda/nccl_group.h"
#include "cuda/queue.h"
#include "cuda/segments.h"
#include "cuda/stream_thread.h"

namespace raylite::cuda {

class PreparedProgram {
 public:
  PreparedProgram(Context& context, const Program& program);
  ~PreparedProgram();

  /// Waits for the end of the run. Throws EngineError, or GroupFailure for a collective.
  void run(const CudaRun& run);

 private:
  struct Observer;
  /// What is put on the streams may differ by what is known of a run's segments.
  struct Variant {
    cudaGraphExec_t graph = nullptr;
    int runs = 0;
  };
  /// The one of a run; has it chosen who makes attention, if it is new.
  Variant& variant_of(const CudaRun& run);
  void choose();
  /// Who makes the instructions of a stream, where the device does not.
  StreamThread* thread_of(std::uint32_t stream);
  void run_instruction(std::size_t i, bool is_choosing);
  /// Puts all instructions on the streams, in an order in which every event is recorded before it is waited for.
  void issue(Observer* observer);
  void issue_one(std::size_t i, Observer* observer);
  cudaGraphExec_t capture();
  void launch_graph(cudaGraphExec_t graph);
  void copy_mirrors(const CudaRun& run, bool is_to_device);
  void launch(const CudaRun& run);
  void throw_faults();
  [[noreturn]] void throw_value(const Faults::Entry& entry, const char* what, std::int64_t row, std::int64_t value, std::int64_t low, std::int64_t high);
  [[noreturn]] void throw_segments(const Faults::Entry& entry);

  Context& context_;
  const Program& program_;
  DeviceBytes worst_;         // of the faults, on the device
  PinnedBytes worst_on_host_;
  Faults faults_;
  HostCalls calls_;
  StreamThread disk_;
  StreamThread host_;
  std::vector<std::shared_ptr<NcclGroup>> groups_;  // of its own that the device makes the collectives of
  std::vector<Event> done_;        // of instructions that others wait for; by event_of_
  std::vector<int> event_of_;      // -1: nobody waits
  Event begin_;
  Event ends_[kStreams];
  SegmentLook segments_;
  std::map<std::vector<std::int64_t>, Variant> variants_;  // by the rows of the segments
};

}  // namespace raylite::cuda
