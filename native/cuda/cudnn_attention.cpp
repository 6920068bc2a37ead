// Attention by cuDNN through its frontend: headers alone, which take half a minute to compile and so are included here and nowhere else.
// Nothing is linked: the frontend calls cuDNN and the runtime through what is opened here. Without its headers there is no such attention.
#include "cuda/library_attention.h"

#include "cuda/library_table.h"

#if defined(RAYLITE_HAS_CUDNN)
#include <cudnn_frontend.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // what the frontend finds cuDNN by
}

namespace raylite::cuda {

namespace {

namespace fe = cudnn_frontend;
using Graph = fe::graph::Graph;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Id : std::int64_t { kQ = 1, kK, kV, kO, kStats, kGradO, kGradQ, kGradK, kGradV };

/// cuDNN's errors say which call, then why.
void check(fe::error_t error) {
  if (error.is_bad()) throw EngineError("ENGINE", "cuDNN: " + error.get_message());
}

/// Once in a process. The compiler of cuDNN's kernels finds its own parts by plain names, which works for what is open already; the frontend
/// would try CUDA 12's runtime first.
void open_cudnn(const CudaLibraries& libraries) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (fe::cudnn_dlhandle != nullptr) return;
  open_library("NVRTC (libnvrtc-builtins.so.13)", libraries.nvrtc_builtins);
  open_library("NVRTC (libnvrtc.so.13)", libraries.nvrtc);
  open_library("the runtime of CUDA (libcudart.so.13)", libraries.cudart);
  setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", libraries.cudart, 0);
  fe::cudnn_dlhandle = open_library("cuDNN (libcudnn.so.9)", libraries.cudnn);
}

std::vector<std::int64_t> strides_of(const CudaAttentionShape& s, const HeadLayout& layout) { return {s.rows * layout.width, layout.head_stride, layout.width, 1}; }

fe::graph::Tensor_attributes heads_of(Id id, const CudaAttentionShape& s, std::int64_t heads, const HeadLayout& layout) {
  return fe::graph::Tensor_attributes().set_uid(id).set_dim({s.segments, heads, s.rows, s.head_dim}).set_stride(strides_of(s, layout));
}

void give_out(const Tensor& tensor, Id id, const CudaAttentionShape& s, std::int64_t heads, const HeadLayout& layout) {
  tensor->set_output(true).set_uid(id).set_dim({s.segments, heads, s.rows, s.head_dim}).set_stride(strides_of(s, layout));
}

/// What both directions say alike. Never a mask tensor: with one, the gradient has been wrong.
template <class Attributes>
Attributes attributes_of(const CudaAttentionShape& s) {
  Attributes attributes;
  attributes.set_name("attention").set_attn_scale(s.scale);
  if (s.causal) attributes.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
  if (s.window > 0) attributes.set_diagonal_band_left_bound(static_cast<int>(s.window));
  return attributes;
}

/// `sm`: of the device that the plan is for, where that is not here.
std::shared_ptr<Graph> graph_of(const CudaAttentionShape& s, int sm = 0) {
  auto graph = std::make_shared<Graph>();
  graph->set_io_data_type(s.type == DType::kBF16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::HALF)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  if (sm != 0) graph->set_sm_version(sm);  // before the first node, which copies it
  const HeadLayout out{s.heads * s.head_dim, 0, s.head_dim};
  const auto stats = [&](fe::graph::Tensor_attributes& tensor) {
    tensor.set_uid(kStats).set_data_type(fe::DataType_t::FLOAT).set_dim({s.segments, s.heads, s.rows, 1}).set_stride({s.heads * s.rows, s.rows, 1, 1});
  };
  const Tensor q = graph->tensor(heads_of(kQ, s, s.heads, s.q)), k = graph->tensor(heads_of(kK, s, s.kv_heads, s.k)), v = graph->tensor(heads_of(kV, s, s.kv_heads, s.v));
  if (!s.is_backward) {
    auto [o, sums] = graph->sdpa(q, k, v, attributes_of<fe::graph::SDPA_attributes>(s).set_generate_stats(true));
    give_out(o, kO, s, s.heads, out);
    stats(sums->set_output(true));
    return graph;
  }
  fe::graph::Tensor_attributes sums;
  stats(sums);
  const Tensor o = graph->tensor(heads_of(kO, s, s.heads, out)), grad_o = graph->tensor(heads_of(kGradO, s, s.heads, out));
  auto [dq, dk, dv] = graph->sdpa_backward(q, k, v, o, grad_o, graph->tensor(sums), attributes_of<fe::graph::SDPA_backward_attributes>(s));
  give_out(dq, kGradQ, s, s.heads, s.q);
  give_out(dk, kGradK, s, s.kv_heads, s.k);
  give_out(dv, kGradV, s, s.kv_heads, s.v);
  return graph;
}

std::size_t workspace_of(const Graph& graph) {
  std::int64_t bytes = 0;
  check(graph.get_workspace_size(bytes));
  return static_cast<std::size_t>(bytes);
}

/// What the frontend throws is no error of ours.
template <class Body>
auto translated(Body body) {
  try {
    return body();
  } catch (const EngineError&) {
    throw;
  } catch (const std::exception& error) {
    throw EngineError("ENGINE", std::string("cuDNN: ") + error.what());
  }
}

class CudnnAttention final : public LibraryAttention {
 public:
  CudnnAttention() {
    const cudnnStatus_t status = fe::detail::create_handle(&handle_);
    if (status != CUDNN_STATUS_SUCCESS) throw EngineError("CUDA", std::string("cuDNN cannot be used: ") + fe::detail::get_error_string(status));
  }
  ~CudnnAttention() override {
    graphs_.clear();
    fe::detail::destroy_handle(handle_);
  }

  std::string name() const override {
    const std::size_t version = fe::detail::get_backend_version();
    return "cuDNN " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
  }

  std::size_t prepare(const CudaAttentionShape& shape) override {
    return translated([&] {
      auto found = graphs_.find(shape);
      if (found == graphs_.end()) {
        auto graph = graph_of(shape);
        check(graph->build(handle_, {fe::HeurMode_t::A}));
        found = graphs_.emplace(shape, std::move(graph)).first;
      }
      return workspace_of(*found->second);
    });
  }

  void run(const CudaAttentionShape& shape, const AttentionTensors& t, void* workspace, cudaStream_t stream) override {
    translated([&] {
      const auto memory = [](const void* p) { return const_cast<void*>(p); };
      std::unordered_map<std::int64_t, void*> tensors{{kQ, memory(t.q)}, {kK, memory(t.k)}, {kV, memory(t.v)}, {kO, t.o}, {kStats, t.stats}};
      if (shape.is_backward) {
        tensors.insert({{kGradO, memory(t.grad_o)}, {kGradQ, t.dq}, {kGradK, t.dk}, {kGradV, t.dv}});
      }
      if (fe::detail::set_stream(handle_, stream) != CUDNN_STATUS_SUCCESS) throw EngineError("ENGINE", "cuDNN takes no such stream");
      check(graphs_.at(shape)->execute(handle_, tensors, workspace));
      return 0;
    });
  }

 private:
  cudnnHandle_t handle_ = nullptr;
  std::map<CudaAttentionShape, std::shared_ptr<Graph>> graphs_;
};

}  // namespace

std::unique_ptr<LibraryAttention> open_library_attention(const CudaLibraries& libraries) {
  open_cudnn(libraries);
  return translated([] { return std::make_unique<CudnnAttention>(); });
}

std::size_t plan_library_attention(const CudaLibraries& libraries, const char* properties, const CudaAttentionShape& shape) {
  open_cudnn(libraries);
  return translated([&] {
    const std::string text(properties);
    auto device = std::make_shared<fe::DeviceProperties>();
    check(device->deserialize({text.begin(), text.end()}));
    const auto graph = graph_of(shape, 90);
    graph->set_device_properties(device);
    check(graph->build({fe::HeurMode_t::A}));
    return workspace_of(*graph);
  });
}

}  // namespace raylite::cuda

#else

namespace raylite::cuda {

namespace {
[[noreturn]] void throw_absent() { throw EngineError("CUDA", "this build has no cuDNN: its headers were not there"); }
}  // namespace

std::unique_ptr<LibraryAttention> open_library_attention(const CudaLibraries&) { throw_absent(); }
std::size_t plan_library_attention(const CudaLibraries&, const char*, const CudaAttentionShape&) { throw_absent(); }

}  // namespace raylite::cuda

#endif
