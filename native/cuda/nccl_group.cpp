// NCCL's calls, and the watch over them.
#include "cuda/nccl_group.h"

#include <cmath>
#include <cstring>

#include "cuda/group_failure.h"

namespace raylite::cuda {

namespace {

constexpr std::chrono::milliseconds kLookEvery(50);
constexpr std::chrono::microseconds kPollEvery(200);
constexpr std::chrono::seconds kLeaveMost(1);
/// NCCL notices a process that has ended before the group over the host can say which one it was.
constexpr std::chrono::milliseconds kBlameMost(Communicator::kBeatMs * (Communicator::kBeatsMissed + 2));

ncclDataType_t type_of(Number number) {
  return number == Number::kBF16 ? ncclBfloat16 : number == Number::kF16 ? ncclFloat16 : ncclFloat32;
}

}  // namespace

/// The collectives as NCCL has them, in place, on a stream. Called with the mutex held.
class NcclGroup::Calls final : public Collectives {
 public:
  Calls(NcclGroup& group, cudaStream_t stream) : group_(group), nccl_(group.nccl_), stream_(stream) {}

  int rank() const override { return group_.rank_; }
  int size() const override { return group_.size_; }
  void all_reduce(void* data, std::size_t count, Number number, ReduceOp op) override {
    const ncclRedOp_t how = op == ReduceOp::kSum ? ncclSum : ncclMax;
    group_.settle("ncclAllReduce", nccl_.ncclAllReduce(data, data, count, type_of(number), how, group_.comm_, stream_));
  }
  void reduce_scatter(void* data, std::size_t slice_count, Number number) override {
    void* own = slice(data, slice_count * width_of(number), rank());
    group_.settle("ncclReduceScatter", nccl_.ncclReduceScatter(data, own, slice_count, type_of(number), ncclSum, group_.comm_, stream_));
  }
  void all_gather(void* data, std::size_t slice_bytes) override {
    const void* own = slice(data, slice_bytes, rank());
    group_.settle("ncclAllGather", nccl_.ncclAllGather(own, data, slice_bytes, ncclUint8, group_.comm_, stream_));
  }
  void all_to_all(const void* in, void* out, std::size_t slice_bytes) override {
    begin();
    for (int peer = 0; peer < size(); peer++) {
      send(slice(const_cast<void*>(in), slice_bytes, peer), slice_bytes, peer);
      receive(slice(out, slice_bytes, peer), slice_bytes, peer);
    }
    end();
  }
  void broadcast(void* data, std::size_t bytes, int root) override {
    group_.settle("ncclBroadcast", nccl_.ncclBroadcast(data, data, bytes, ncclUint8, root, group_.comm_, stream_));
  }
  void send_receive(const Transfer& transfer) override {
    begin();
    if (transfer.to >= 0) send(transfer.send, transfer.send_bytes, transfer.to);
    if (transfer.from >= 0) receive(transfer.receive, transfer.receive_bytes, transfer.from);
    end();
  }
  void barrier() override {
    RL_CUDA(cudaMemsetAsync(group_.scratch_.as<void>(), 0, sizeof(float), stream_));
    all_reduce(group_.scratch_.as<void>(), 1, Number::kF32, ReduceOp::kSum);
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    RL_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_));
  }

 private:
  static void* slice(void* data, std::size_t bytes, int peer) { return static_cast<std::uint8_t*>(data) + static_cast<std::size_t>(peer) * bytes; }
  void begin() { group_.settle("ncclGroupStart", nccl_.ncclGroupStart()); }
  void end() { group_.settle("ncclGroupEnd", nccl_.ncclGroupEnd()); }
  void send(const void* data, std::size_t bytes, int peer) {
    group_.settle("ncclSend", nccl_.ncclSend(data, bytes, ncclUint8, peer, group_.comm_, stream_));
  }
  void receive(void* data, std::size_t bytes, int peer) {
    group_.settle("ncclRecv", nccl_.ncclRecv(data, bytes, ncclUint8, peer, group_.comm_, stream_));
  }

  NcclGroup& group_;
  const Nccl& nccl_;
  const cudaStream_t stream_;
};

NcclGroup::NcclGroup(const Nccl& nccl, int device, const CudaGroup& group)
    : nccl_(nccl),
      device_(device),
      rank_(group.ranks->rank()),
      size_(group.ranks->size()),
      ranks_(group.ranks),
      check_(group.is_whole),
      stands_at_(group.stands_at),
      late_(group.is_late),
      timeout_(group.timeout_ms),
      scratch_(sizeof(float)),
      mark_(sizeof(Mark)) {
  *mark_.as<Mark>() = {};
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;  // so that a rank that never comes can be given up
  ncclUniqueId id;
  static_assert(sizeof(id) == sizeof(group.id));
  std::memcpy(&id, &group.id, sizeof(id));
  try {
    settle("ncclCommInitRankConfig", nccl.ncclCommInitRankConfig(&comm_, size_, id, rank_, &config));
  } catch (...) {
    abort();
    throw;
  }
  thread_ = std::thread([this] { watch(); });
}

NcclGroup::~NcclGroup() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  cudaSetDevice(device_);
  if (comm_ == nullptr) return;
  ncclResult_t state = nccl_.ncclCommFinalize(comm_);
  for (const auto start = Clock::now(); state == ncclInProgress && Clock::now() - start < kLeaveMost;) {
    std::this_thread::sleep_for(kPollEvery);
    if (nccl_.ncclCommGetAsyncError(comm_, &state) != ncclSuccess) break;
  }
  if (state == ncclSuccess) nccl_.ncclCommDestroy(comm_);
  else abort();
}

void NcclGroup::abort() {
  if (comm_ != nullptr) nccl_.ncclCommAbort(comm_);
  comm_ = nullptr;
}

/// Waits until NCCL has taken the call, as long as the ranks are whole. Between ncclGroupStart and ncclGroupEnd that is at once.
void NcclGroup::settle(const char* call, ncclResult_t result) {
  for (const auto start = Clock::now(); result == ncclInProgress;) {
    CollectiveFailure failure;
    if (!is_whole(failure)) throw GroupFailure(failure.message, failure.rank);
    if (Clock::now() - start > timeout_) throw GroupFailure(std::string(call) + " takes longer than " + std::to_string(std::llround(timeout_.count())) + " ms", -1);
    std::this_thread::sleep_for(kPollEvery);
    const ncclResult_t asked = nccl_.ncclCommGetAsyncError(comm_, &result);
    if (asked != ncclSuccess) result = asked;
  }
  if (result == ncclSuccess) return;
  const char* detail = nccl_.ncclGetLastError(comm_);
  const std::string said = detail != nullptr && *detail != '\0' ? std::string(" (") + detail + ")" : "";
  throw GroupFailure(std::string(call) + ": " + nccl_.ncclGetErrorString(result) + said, -1);
}

std::unique_lock<std::mutex> NcclGroup::hold() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (is_given_up_) throw GroupFailure(failure_.message, failure_.rank);
  return lock;
}

std::uint32_t NcclGroup::place_of(const std::string& text) {
  return places_.emplace(text, static_cast<std::uint32_t>(places_.size() + 1)).first->second;
}

void NcclGroup::pass(const CudaMessage& message) {
  const cudaStream_t stream = messages_.get();
  {
    const auto held = hold();
    put_mark(stream, mark_.as<Mark>(), place_of(message.is_sent ? "a message to a peer" : "a message from a peer"));
    Calls(*this, stream).send_receive(transfer_of(message.data, message.bytes, message.peer, message.is_sent));
    put_mark(stream, mark_.as<Mark>(), 0);
  }
  RL_CUDA(cudaStreamSynchronize(stream));
  hold();  // what was given up meanwhile has not arrived
}

void NcclGroup::put(const CollectiveArguments& a, const Queue& queue) {
  const auto held = hold();
  put_mark(queue.stream, mark_.as<Mark>(), place_of(a.place));
  Calls calls(*this, queue.stream);
  try {
    a.call(calls, a.in.data, a.out.data);
  } catch (const GroupFailure& failure) {
    throw GroupFailure(a.place + ": " + failure.what(), failure.rank());
  }
  put_mark(queue.stream, mark_.as<Mark>(), 0);
}

bool NcclGroup::is_whole(CollectiveFailure& failure) const {
  const auto ranks = ranks_.lock();
  return !ranks || check_(*ranks, failure);
}

bool NcclGroup::has_error(CollectiveFailure& failure) {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = nccl_.ncclCommGetAsyncError(comm_, &state);
  if (asked != ncclSuccess) state = asked;
  if (state == ncclSuccess || state == ncclInProgress) return false;
  if (!has_seen_error_) error_at_ = Clock::now();
  has_seen_error_ = true;
  failure = {std::string("NCCL: ") + nccl_.ncclGetErrorString(state), -1};
  return Clock::now() - error_at_ > kBlameMost;
}

bool NcclGroup::is_late(CollectiveFailure& failure) {
  const volatile Mark& mark = *mark_.as<Mark>();
  const auto now = Clock::now();
  const std::uint32_t count = mark.count;
  if (count != seen_count_) seen_at_ = now;
  seen_count_ = count;
  if (mark.place == 0 || now - seen_at_ <= timeout_) return false;
  const auto ranks = ranks_.lock();
  if (!ranks || late_(*ranks, timeout_.count(), failure)) return true;
  failure = {"a peer is late: nothing came from it for " + std::to_string(std::llround(timeout_.count())) + " ms", -1};
  return now - seen_at_ > timeout_ + kBlameMost;
}

/// Every collective leaves two marks.
void NcclGroup::tell_where() const {
  const volatile Mark& mark = *mark_.as<Mark>();
  const std::uint32_t calls = (mark.count + 1) / 2;
  if (const auto ranks = ranks_.lock()) stands_at_(*ranks, calls, text_of(mark.place));
}

std::string NcclGroup::text_of(std::uint32_t wanted) const {
  for (const auto& [text, place] : places_) {
    if (place == wanted) return text;
  }
  return {};
}

void NcclGroup::give_up(const CollectiveFailure& failure) {
  failure_ = failure;
  const std::string text = text_of(static_cast<const volatile Mark*>(mark_.as<Mark>())->place);
  if (!text.empty()) failure_.message = text + ": " + failure.message;
  is_given_up_ = true;
  abort();
}

void NcclGroup::watch() {
  cudaSetDevice(device_);
  std::unique_lock<std::mutex> lock(mutex_);
  while (!is_stopping_ && !is_given_up_) {
    changed_.wait_for(lock, kLookEvery);
    tell_where();
    CollectiveFailure failure;
    if (!is_stopping_ && (!is_whole(failure) || has_error(failure) || is_late(failure))) give_up(failure);
  }
}

}  // namespace raylite::cuda
