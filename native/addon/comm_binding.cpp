// NativeComm and NativeCommunicator of src/native/addon.ts. Every communicator has a thread of its own for calls that JavaScript makes.
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/bindings.h"
#include "addon/call_thread.h"
#include "comm/hierarchical_communicator.h"
#include "comm/shm_communicator.h"
#include "comm/tcp_communicator.h"
#include "comm/tcp_mesh.h"
#include "comm/watchdog.h"

namespace raylite {

namespace {

constexpr napi_type_tag kCommunicatorTag = {0x7261796c69746543ull, 0x6f6d6d756e696361ull};
constexpr napi_type_tag kListenerTag = {0x7261796c6974654cull, 0x697374656e657220ull};
constexpr int kRanksMax = 4096;

Napi::Error comm_error(Napi::Env env, std::exception_ptr thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const CommError& error) {
    const Napi::Error result = coded_error(env, "COMM", error.what());
    if (error.rank() >= 0) result.Value().Set("rank", Napi::Number::New(env, error.rank()));
    return result;
  } catch (const std::exception& error) {
    return coded_error(env, "COMM", error.what());
  }
}

/// What a join makes, shared between its thread (which fills it) and whoever may want to interrupt it.
class Joining {
 public:
  const std::atomic<bool>& is_cancelled() const { return is_cancelled_; }
  void fill(std::shared_ptr<Communicator> made) {
    const std::lock_guard<std::mutex> lock(mutex_);
    known_ = made;
    made_ = std::move(made);
  }
  std::shared_ptr<Communicator> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::move(made_);
  }
  void interrupt() {
    is_cancelled_.store(true);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto communicator = known_.lock()) communicator->abort("it left during a collective");
  }

 private:
  std::atomic<bool> is_cancelled_{false};
  std::mutex mutex_;
  std::shared_ptr<Communicator> made_;
  std::weak_ptr<Communicator> known_;  // whoever took it decides how long it lives
};

class CommunicatorObject : public Napi::ObjectWrap<CommunicatorObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeCommunicator",
                       {InstanceAccessor<&CommunicatorObject::rank>("rank"),
                        InstanceAccessor<&CommunicatorObject::size>("size"),
                        InstanceAccessor<&CommunicatorObject::bytes_sent>("bytesSent"),
                        InstanceMethod<&CommunicatorObject::all_reduce>("allReduce"),
                        InstanceMethod<&CommunicatorObject::reduce_scatter>("reduceScatter"),
                        InstanceMethod<&CommunicatorObject::all_gather>("allGather"),
                        InstanceMethod<&CommunicatorObject::all_to_all>("allToAll"),
                        InstanceMethod<&CommunicatorObject::broadcast>("broadcast"),
                        InstanceMethod<&CommunicatorObject::send_receive>("sendReceive"),
                        InstanceMethod<&CommunicatorObject::barrier>("barrier"),
                        InstanceMethod<&CommunicatorObject::abort>("abort"),
                        InstanceMethod<&CommunicatorObject::check>("check"),
                        InstanceMethod<&CommunicatorObject::dispose>("dispose")});
  }

  struct Parts {
    std::shared_ptr<Communicator> communicator;
    std::shared_ptr<CallThread> thread;
  };

  explicit CommunicatorObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CommunicatorObject>(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) {
      throw Napi::TypeError::New(info.Env(), "a communicator is made by joinShmGroup or joinTcpGroup");
    }
    parts_ = *info[0].As<Napi::External<Parts>>().Data();
    rank_ = parts_.communicator->rank();
    size_ = parts_.communicator->size();
    info.This().As<Napi::Object>().TypeTag(&kCommunicatorTag);
  }

  ~CommunicatorObject() override {
    if (parts_.thread) parts_.thread->stop();
  }

  std::shared_ptr<Communicator> communicator(Napi::Env env) const {
    if (!parts_.communicator) throw coded_error(env, "COMM", "the communicator of rank " + std::to_string(rank_) + " was disposed");
    return parts_.communicator;
  }

 private:
  Napi::Value rank(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), rank_); }
  Napi::Value check(const Napi::CallbackInfo& info) {
    try {
      communicator(info.Env())->check();
    } catch (const CommError&) {
      throw comm_error(info.Env(), std::current_exception());
    }
    return info.Env().Undefined();
  }
  Napi::Value size(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), size_); }
  Napi::Value bytes_sent(const Napi::CallbackInfo& info) {
    const std::uint64_t bytes = parts_.communicator ? parts_.communicator->bytes_sent() : bytes_sent_at_end_;
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  }

  /// The bytes of a typed array.
  struct Span {
    std::uint8_t* data;
    std::size_t bytes;
  };
  static Span bytes_of(const Napi::Value& value, const char* name) {
    if (!value.IsTypedArray()) throw Napi::TypeError::New(value.Env(), std::string(name) + ": expected a typed array");
    const auto array = value.As<Napi::TypedArray>();
    return {static_cast<std::uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset(), array.ByteLength()};
  }

  /// Floats, or 16-bit numbers as a Uint16Array of the `type` that follows.
  static Number number_of(const Napi::Value& value, const Napi::Value& type) {
    const auto kind = value.IsTypedArray() ? value.As<Napi::TypedArray>().TypedArrayType() : napi_uint8_array;
    if (kind == napi_float32_array && type.IsUndefined()) return Number::kF32;
    if (kind != napi_uint16_array) throw Napi::TypeError::New(value.Env(), "data: expected a Float32Array, or a Uint16Array and its type");
    const std::string name = string_of(type, "type");
    if (name != "bf16" && name != "f16") throw Napi::TypeError::New(value.Env(), "type: expected \"bf16\" or \"f16\", got \"" + name + "\"");
    return name == "bf16" ? Number::kBF16 : Number::kF16;
  }

  /// What one rank of all has of `data`, in units of `width` bytes.
  std::size_t slice_of(Napi::Env env, const Span& data, std::size_t width) const {
    const auto ranks = static_cast<std::size_t>(size_);
    const std::size_t elements = data.bytes / width;
    if (elements % ranks != 0) {
      throw Napi::RangeError::New(env, "data: expected a multiple of " + std::to_string(size_) + " elements, got " +
                                           std::to_string(elements));
    }
    return elements / ranks;
  }

  int peer_of(const Napi::Value& value, const char* name) const {
    const int peer = static_cast<int>(integer_of(value, name, 0, size_ - 1));
    if (peer == rank_) throw Napi::RangeError::New(value.Env(), std::string(name) + ": expected another rank, got this one");
    return peer;
  }

  /// `work` runs on the communicator's thread; this object and `data` stay until it is done.
  Napi::Value run(const Napi::CallbackInfo& info, Napi::Value data, std::function<void(Communicator&)> work) {
    const Napi::Env env = info.Env();
    const std::shared_ptr<Communicator> target = communicator(env);
    const Napi::Array keep = Napi::Array::New(env, 2);
    keep.Set(0u, info.This());
    keep.Set(1u, data);
    return parts_.thread->call(
        env, keep, [target, work = std::move(work)] { work(*target); }, [](Napi::Env in) { return in.Undefined(); },
        comm_error);
  }

  Napi::Value all_reduce(const Napi::CallbackInfo& info) {
    const Number number = number_of(info[0], info[2]);
    const Span data = bytes_of(info[0], "data");
    const std::string op = string_of(info[1], "op");
    if (op != "sum" && op != "max") throw Napi::TypeError::New(info.Env(), "op: expected \"sum\" or \"max\", got \"" + op + "\"");
    const ReduceOp reduce = op == "sum" ? ReduceOp::kSum : ReduceOp::kMax;
    return run(info, info[0], [data, number, reduce](Communicator& group) {
      group.all_reduce(data.data, data.bytes / width_of(number), number, reduce);
    });
  }

  Napi::Value reduce_scatter(const Napi::CallbackInfo& info) {
    const Number number = number_of(info[0], info[1]);
    const Span data = bytes_of(info[0], "data");
    const std::size_t slice = slice_of(info.Env(), data, width_of(number));
    return run(info, info[0], [=](Communicator& group) { group.reduce_scatter(data.data, slice, number); });
  }

  Napi::Value all_gather(const Napi::CallbackInfo& info) {
    const Span data = bytes_of(info[0], "data");
    const std::size_t slice = slice_of(info.Env(), data, 1);
    return run(info, info[0], [=](Communicator& group) { group.all_gather(data.data, slice); });
  }

  Napi::Value all_to_all(const Napi::CallbackInfo& info) {
    const Span in = bytes_of(info[0], "input"), out = bytes_of(info[1], "output");
    if (in.bytes != out.bytes || (in.data < out.data + out.bytes && out.data < in.data + in.bytes)) {
      throw Napi::RangeError::New(info.Env(), "output: expected as many bytes as the input has, apart from it");
    }
    const std::size_t slice = slice_of(info.Env(), in, 1);
    const Napi::Array both = Napi::Array::New(info.Env(), 2);
    both.Set(0u, info[0]);
    both.Set(1u, info[1]);
    return run(info, both, [=](Communicator& group) { group.all_to_all(in.data, out.data, slice); });
  }

  Napi::Value broadcast(const Napi::CallbackInfo& info) {
    const Span data = bytes_of(info[0], "data");
    const int root = static_cast<int>(integer_of(info[1], "root", 0, size_ - 1));
    return run(info, info[0], [=](Communicator& group) { group.broadcast(data.data, data.bytes, root); });
  }

  Napi::Value send_receive(const Napi::CallbackInfo& info) {
    const Napi::Object options = object_of(info[0], "transfer");
    Transfer transfer;
    if (options.Has("to")) {
      const Span data = bytes_of(options.Get("send"), "send");
      transfer.send = data.data;
      transfer.send_bytes = data.bytes;
      transfer.to = peer_of(options.Get("to"), "to");
    }
    if (options.Has("from")) {
      const Span data = bytes_of(options.Get("receive"), "receive");
      transfer.receive = data.data;
      transfer.receive_bytes = data.bytes;
      transfer.from = peer_of(options.Get("from"), "from");
    }
    return run(info, options, [=](Communicator& group) { group.send_receive(transfer); });
  }

  Napi::Value barrier(const Napi::CallbackInfo& info) {
    return run(info, info.Env().Undefined(), [](Communicator& group) { group.barrier(); });
  }

  void abort(const Napi::CallbackInfo& info) { communicator(info.Env())->abort(string_of(info[0], "reason")); }

  void dispose(const Napi::CallbackInfo&) {
    if (!parts_.communicator) return;
    bytes_sent_at_end_ = parts_.communicator->bytes_sent();
    parts_.thread->stop();
    parts_ = {};
  }

  Parts parts_;  // empty once disposed
  int rank_ = 0;
  int size_ = 0;
  std::uint64_t bytes_sent_at_end_ = 0;
};

double timeout_of(const Napi::Value& value, const std::string& name) {
  const double timeout = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(timeout > 0)) throw Napi::RangeError::New(value.Env(), name + ": expected a positive number of milliseconds");
  return timeout;
}

JoinOptions join_options_of(const Napi::Object& options, int size) {
  JoinOptions join{};
  join.size = size;
  join.rank = static_cast<int>(integer_of(options.Get("rank"), "rank", 0, size - 1));
  join.timeout_ms = timeout_of(options.Get("timeoutMs"), "timeoutMs");
  const Napi::Value names = options.Get("names");
  if (!names.IsUndefined()) {
    if (!names.IsArray() || names.As<Napi::Array>().Length() != static_cast<std::uint32_t>(size)) {
      throw Napi::TypeError::New(options.Env(), "names: expected an array of " + std::to_string(size) + " ranks of the job");
    }
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(size); ++i) {
      join.names.push_back(static_cast<int>(integer_of(names.As<Napi::Array>().Get(i), "names", 0, INT32_MAX)));
    }
  }
  const Napi::Value operation = options.Get("operationTimeoutMs");
  join.operation_timeout_ms = operation.IsUndefined() ? join.timeout_ms : timeout_of(operation, "operationTimeoutMs");
  return join;
}

using CommunicatorType = std::shared_ptr<Napi::FunctionReference>;
using Make = std::function<std::shared_ptr<Communicator>(const std::atomic<bool>&)>;

/// Starts a thread, makes the communicator on it, and resolves to the object that owns both.
Napi::Value join_on_thread(Napi::Env env, const CommunicatorType& type, Make make) {
  const auto joining = std::make_shared<Joining>();
  const std::shared_ptr<CallThread> thread = CallThread::start(env, [joining] { joining->interrupt(); });
  const auto work = [joining, make = std::move(make)] {
    joining->fill(make(joining->is_cancelled()));
  };
  const auto resolve = [joining, type, thread](Napi::Env in) -> Napi::Value {
    CommunicatorObject::Parts parts{joining->take(), thread};
    return type->New({Napi::External<CommunicatorObject::Parts>::New(in, &parts)});
  };
  const auto reject = [thread](Napi::Env in, std::exception_ptr error) {
    thread->stop();
    return comm_error(in, error);
  };
  return thread->call(env, Napi::Object::New(env), work, resolve, reject);
}

/// `{ dispose() }`: what it watches is left only after that.
Napi::Value watch_groups(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsArray()) throw Napi::TypeError::New(env, "groups: expected an array of communicators");
  const auto list = info[0].As<Napi::Array>();
  std::vector<std::shared_ptr<Communicator>> groups;
  for (std::uint32_t i = 0; i < list.Length(); ++i) groups.push_back(communicator_of(list.Get(i)));
  const auto held = std::make_shared<std::unique_ptr<Watchdog>>(std::make_unique<Watchdog>(std::move(groups)));
  const Napi::Object result = Napi::Object::New(env);
  result.Set("dispose", Napi::Function::New(env, [held](const Napi::CallbackInfo&) { held->reset(); }));
  return result;
}

using SharedListener = std::shared_ptr<TcpListener>;

SharedListener listener_of(const Napi::Value& value) {
  if (!value.IsExternal() || !value.As<Napi::External<SharedListener>>().CheckTypeTag(&kListenerTag)) {
    throw Napi::TypeError::New(value.Env(), "listener: expected what listenTcpGroup returned");
  }
  SharedListener& held = *value.As<Napi::External<SharedListener>>().Data();
  if (!held) throw coded_error(value.Env(), "COMM", "listener: it was used for a group already; a listener serves one");
  return std::exchange(held, nullptr);
}

Napi::Value listen_tcp_group(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  try {
    const auto listener = std::make_shared<TcpListener>(listen_tcp(string_of(info[0], "host")));
    const auto external = Napi::External<SharedListener>::New(
        env, new SharedListener(listener), [](Napi::Env, SharedListener* held) { delete held; });
    external.TypeTag(&kListenerTag);
    const Napi::Object result = Napi::Object::New(env);
    result.Set("port", Napi::Number::New(env, listener->port));
    result.Set("listener", external);
    return result;
  } catch (const CommError&) {
    throw comm_error(env, std::current_exception());
  }
}

/// What a group over TCP is joined with.
struct TcpJoin {
  SharedListener listener;
  std::vector<std::string> addresses;
  std::string secret;
  JoinOptions options;

  JoinOptions cancellable(const std::atomic<bool>& is_cancelled) const {
    JoinOptions join = options;
    join.is_cancelled = &is_cancelled;
    return join;
  }
};

TcpJoin tcp_join_of(const Napi::CallbackInfo& info) {
  const Napi::Object options = object_of(info[0], "options");
  if (!options.Get("addresses").IsArray()) throw Napi::TypeError::New(info.Env(), "addresses: expected an array of strings");
  const auto list = options.Get("addresses").As<Napi::Array>();
  if (list.Length() < 1 || list.Length() > kRanksMax) {
    throw Napi::RangeError::New(info.Env(), "addresses: expected 1 to " + std::to_string(kRanksMax));
  }
  TcpJoin join;
  for (std::uint32_t i = 0; i < list.Length(); ++i) {
    join.addresses.push_back(string_of(list.Get(i), "addresses[" + std::to_string(i) + "]"));
  }
  join.options = join_options_of(options, static_cast<int>(join.addresses.size()));
  join.secret = string_of(options.Get("secret"), "secret");
  join.listener = listener_of(options.Get("listener"));
  return join;
}

}  // namespace

std::shared_ptr<Communicator> communicator_of(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kCommunicatorTag)) {
    throw Napi::TypeError::New(value.Env(), "expected a communicator that joinShmGroup or joinTcpGroup made");
  }
  return CommunicatorObject::Unwrap(value.As<Napi::Object>())->communicator(value.Env());
}

void bind_comm(Napi::Env env, Napi::Object exports) {
  const auto type = std::make_shared<Napi::FunctionReference>(Napi::Persistent(CommunicatorObject::define(env)));
  exports.Set("joinShmGroup", Napi::Function::New(env, [type](const Napi::CallbackInfo& info) {
                const Napi::Object options = object_of(info[0], "options");
                const std::string name = string_of(options.Get("name"), "name");
                const int size = static_cast<int>(integer_of(options.Get("size"), "size", 1, kRanksMax));
                const JoinOptions join = join_options_of(options, size);
                return join_on_thread(info.Env(), type, [name, join](const std::atomic<bool>& is_cancelled) {
                  JoinOptions cancellable = join;
                  cancellable.is_cancelled = &is_cancelled;
                  return std::make_shared<ShmCommunicator>(name, cancellable);
                });
              }));
  exports.Set("shmGroupBytes", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(ShmSegment::bytes_of(info[0].As<Napi::Number>().Int32Value())));
  }));
  exports.Set("watchGroups", Napi::Function::New(env, watch_groups));
  exports.Set("listenTcpGroup", Napi::Function::New(env, listen_tcp_group));
  exports.Set("joinTcpGroup", Napi::Function::New(env, [type](const Napi::CallbackInfo& info) {
                const TcpJoin join = tcp_join_of(info);
                return join_on_thread(info.Env(), type, [join](const std::atomic<bool>& is_cancelled) {
                  return std::make_shared<TcpCommunicator>(*join.listener, join.addresses, join.secret, join.cancellable(is_cancelled));
                });
              }));
  exports.Set("joinHierarchicalGroup", Napi::Function::New(env, [type](const Napi::CallbackInfo& info) {
                const TcpJoin join = tcp_join_of(info);
                const Napi::Object options = object_of(info[0], "options");
                const std::string name = string_of(options.Get("name"), "name");
                const int machines = static_cast<int>(integer_of(options.Get("machines"), "machines", 1, join.options.size));
                if (join.options.size % machines != 0) {
                  throw Napi::RangeError::New(info.Env(), "machines: expected a divisor of " + std::to_string(join.options.size) + " ranks");
                }
                return join_on_thread(info.Env(), type, [join, name, machines](const std::atomic<bool>& is_cancelled) {
                  return std::make_shared<HierarchicalCommunicator>(name, machines, *join.listener, join.addresses, join.secret,
                                                                    join.cancellable(is_cancelled));
                });
              }));
}

}  // namespace raylite
