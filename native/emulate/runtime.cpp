// Streams, events and graphs of the emulated runtime. What is put on streams runs when somebody waits; of the streams
// that could go on one is drawn at random each time, so that a wait that is missing shows.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "emulate/device.h"

namespace raylite::emulate {

Device devices[kDevices];
thread_local int current = 0;
std::atomic<std::int64_t> skew_us = 0;

namespace {

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Numbers of the machine's devices that this process sees, as CUDA_VISIBLE_DEVICES says.
const std::vector<int>& visible() {
  static const std::vector<int> kVisible = [] {
    std::vector<int> seen;
    const char* text = std::getenv("CUDA_VISIBLE_DEVICES");
    if (text == nullptr) {
      for (int i = 0; i < kDevices; i++) seen.push_back(i);
      return seen;
    }
    std::istringstream list(text);
    for (std::string id; std::getline(list, id, ',');) {
      const int device = id.empty() || id.find_first_not_of("0123456789") != std::string::npos ? -1 : std::stoi(id);
      if (device < 0 || device >= kDevices) break;  // as CUDA: those behind it are not seen either
      seen.push_back(device);
    }
    return seen;
  }();
  return kVisible;
}

bool is_visible(int device) { return device >= 0 && device < static_cast<int>(visible().size()); }
std::map<Event*, std::shared_ptr<Event>> events;
std::mutex events_mutex;

std::shared_ptr<Event> shared(Event* event) {
  const std::lock_guard<std::mutex> lock(events_mutex);
  return events.at(event);
}

}  // namespace

bool step(Device& device, std::unique_lock<std::recursive_mutex>& lock) {
  std::vector<Stream*> ready;
  for (Stream* stream : device.streams) {
    if (stream->queue.empty() || stream->is_busy) continue;
    const Work& first = stream->queue.front();
    if (first.kind != Work::Kind::kWait || first.event->done >= first.number) ready.push_back(stream);
  }
  if (ready.empty()) return false;
  Stream* stream = ready[device.draw(ready.size())];
  const Work work = std::move(stream->queue.front());
  stream->queue.pop_front();
  if (work.kind == Work::Kind::kRun) {
    stream->is_busy = true;
    device.busy++;
    const auto run = [stream, &device, work] {
      work.run();
      const std::lock_guard<std::recursive_mutex> relock(device.mutex);
      device.busy--;
      stream->is_busy = false;
      device.changed.notify_all();
    };
    lock.unlock();
    if (work.waits_for_peers) {
      std::thread([&device, run] {
        const Touching touching(device);
        run();
      }).detach();
    } else {
      run();
    }
    lock.lock();
  }
  if (work.kind == Work::Kind::kRecord) work.event->done = work.number, work.event->at_ms = now_ms() + static_cast<double>(skew_us) / 1000;
  device.changed.notify_all();
  return true;
}

namespace {

/// The device whose memory `at` is in; null: the host's.
Device* device_of(const void* at) {
  for (Device& device : devices) {
    const std::lock_guard<std::recursive_mutex> lock(device.mutex);
    const auto next = device.allocations.upper_bound(const_cast<void*>(at));
    if (next == device.allocations.begin()) continue;
    const auto& [begin, allocation] = *std::prev(next);
    if (static_cast<const char*>(at) < static_cast<const char*>(begin) + allocation.bytes) return &device;
  }
  return nullptr;
}

/// Between any memory, as with one address space: of the host, of the stream's device, of another one.
void copy(void* to, const void* from, std::size_t bytes, Device& own) {
  Device* const ends[2] = {device_of(to), device_of(from)};
  std::vector<std::unique_ptr<Touching>> touching;
  for (Device* end : ends) {
    if (end != nullptr && end != &own) touching.push_back(std::make_unique<Touching>(*end));
  }
  note_copy(ends[0] != nullptr && ends[1] != nullptr ? "device" : "host", bytes);
  std::memmove(to, from, bytes);
}

/// Puts an entry on a stream, or into the graph that it is being captured to.
void put(Stream* stream, Work work) {
  const std::lock_guard<std::recursive_mutex> lock(devices[stream->device].mutex);
  if (stream->capture != nullptr) {
    stream->capture->queues[stream].push_back(std::move(work));
  } else {
    stream->queue.push_back(std::move(work));
  }
}

/// All of a captured graph, each of its queues in order, their entries drawn at random.
void run_graph(const Graph& graph, Device& device) {
  std::map<Stream*, std::size_t> at;
  std::vector<bool> done(graph.records + 1, false);
  for (;;) {
    std::vector<Stream*> ready;
    bool is_left = false;
    for (const auto& [stream, queue] : graph.queues) {
      if (at[stream] == queue.size()) continue;
      is_left = true;
      const Work& work = queue[at[stream]];
      if (work.kind != Work::Kind::kWait || done[work.number]) ready.push_back(stream);
    }
    if (!is_left) return;
    if (ready.empty()) stop("a graph waits for itself");
    Stream* stream = ready[device.draw(ready.size())];
    const Work& work = graph.queues.at(stream)[at[stream]++];
    if (work.kind == Work::Kind::kRun) work.run();
    if (work.kind == Work::Kind::kRecord) done[work.number] = true;
  }
}

}  // namespace

int number_of(int device) { return visible()[static_cast<std::size_t>(device)]; }

void note_copy(const char* way, std::size_t bytes) {
  static const char* const kPath = std::getenv("RAYLITE_EMULATED_COPIES");
  if (kPath == nullptr) return;
  const std::string line = std::string(way) + " " + std::to_string(bytes) + "\n";
  const int file = open(kPath, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || write(file, line.data(), line.size()) < 0) stop("copies cannot be noted");
  close(file);
}

void enqueue(Stream* stream, std::function<void()> work, bool waits_for_peers) {
  put(stream, {Work::Kind::kRun, std::move(work), nullptr, 0, waits_for_peers});
}

}  // namespace raylite::emulate

using namespace raylite::emulate;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorPeerAccessUnsupported: return "peer access is not supported between these two devices";
    case cudaErrorNotReady: return "device not ready";
  }
  return "unknown error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = static_cast<int>(visible().size()), visible().empty() ? cudaErrorNoDevice : cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  if (!is_visible(device)) return cudaErrorInvalidDevice;
  current = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!is_visible(device)) return cudaErrorInvalidDevice;
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated device %d", visible()[static_cast<std::size_t>(device)]);
  properties->totalGlobalMem = std::size_t{8} << 30;
  properties->major = 9;
  properties->multiProcessorCount = 4;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* bus, int bytes, int device) {
  if (!is_visible(device)) return cudaErrorInvalidDevice;
  std::snprintf(bus, static_cast<std::size_t>(bytes), "0000:%02X:00.0", 1 + visible()[static_cast<std::size_t>(device)]);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  enqueue(stream, [=] { copy(to, from, bytes, devices[stream->device]); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  enqueue(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  enqueue(stream, [=] { function(argument); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Device& device = devices[current];
  const std::lock_guard<std::recursive_mutex> lock(device.mutex);
  *stream = new Stream;
  (*stream)->device = current;
  device.streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Device& device = devices[stream->device];
  drain(device, [&] { return stream->is_through(); });
  const std::lock_guard<std::recursive_mutex> lock(device.mutex);
  device.streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capture != nullptr) return cudaErrorInvalidValue;
  drain(devices[stream->device], [&] { return stream->is_through(); });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const auto made = std::make_shared<Event>();
  const std::lock_guard<std::mutex> lock(events_mutex);
  events[made.get()] = made;
  *event = made.get();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard<std::mutex> lock(events_mutex);
  events.erase(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->capture = stream->capture;
  const std::uint64_t number = stream->capture != nullptr ? ++stream->capture->records : ++event->recorded;
  event->capture_number = number;
  put(stream, {Work::Kind::kRecord, nullptr, shared(event), number});
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event->capture != nullptr) {
    stream->capture = event->capture;
    put(stream, {Work::Kind::kWait, nullptr, shared(event), event->capture_number});
    return cudaSuccess;
  }
  if (stream->capture != nullptr) return cudaErrorInvalidValue;  // an event from outside of the capture
  put(stream, {Work::Kind::kWait, nullptr, shared(event), event->recorded});
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  Device& device = devices[current];
  drain(device, [&] { return event->done >= event->recorded; });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cudaEventQuery(event); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = static_cast<float>(end->at_ms - begin->at_ms);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->capture != nullptr) return cudaErrorInvalidValue;
  stream->capture = new Graph;
  stream->capture->origin = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Graph* captured = stream->capture;
  if (captured == nullptr || captured->origin != stream) return cudaErrorInvalidValue;
  *graph = captured;
  std::set<std::uint64_t> joined;
  for (const Work& work : captured->queues[stream]) {
    if (work.kind == Work::Kind::kWait) joined.insert(work.number);
  }
  bool is_joined = true;
  for (auto& [other, queue] : captured->queues) {
    other->capture = nullptr;
    const bool ends_awaited = !queue.empty() && queue.back().kind == Work::Kind::kRecord && joined.count(queue.back().number) > 0;
    is_joined = is_joined && (other == stream || ends_awaited);
  }
  stream->capture = nullptr;
  return is_joined ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new Graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Device& device = devices[stream->device];
  enqueue(stream, [executable, &device] { run_graph(*executable, device); });
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return delete executable, cudaSuccess; }
