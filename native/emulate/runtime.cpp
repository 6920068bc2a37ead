// Streams, events and graphs of the emulated runtime. What is put on streams runs when somebody waits; of the streams
// that could go on one is drawn at random each time, so that a wait that is missing shows.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "emulate/device.h"

namespace raylite::emulate {

Device devices[kDevices];
thread_local int current = 0;

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

bool step(Device& device) {
  std::vector<Stream*> ready;
  for (Stream* stream : device.streams) {
    if (stream->queue.empty()) continue;
    const Work& first = stream->queue.front();
    if (first.kind != Work::Kind::kWait || first.event->done >= first.number) ready.push_back(stream);
  }
  if (ready.empty()) return false;
  Stream* stream = ready[device.draw(ready.size())];
  const Work work = std::move(stream->queue.front());
  stream->queue.pop_front();
  if (work.kind == Work::Kind::kRun) work.run();
  if (work.kind == Work::Kind::kRecord) work.event->done = work.number, work.event->at_ms = now_ms();
  return true;
}

namespace {

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

void enqueue(Stream* stream, std::function<void()> work) { put(stream, {Work::Kind::kRun, std::move(work), nullptr, 0}); }

}  // namespace raylite::emulate

using namespace raylite::emulate;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
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
  enqueue(stream, [=] { std::memmove(to, from, bytes); });
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
  const std::lock_guard<std::recursive_mutex> lock(device.mutex);
  drain(device, [&] { return stream->queue.empty(); });
  device.streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capture != nullptr) return cudaErrorInvalidValue;
  drain(devices[stream->device], [&] { return stream->queue.empty(); });
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
