// How ranks form groups (src/native/addon.ts, NativeComm): what joins them and listens for them.
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/bindings.h"
#include "addon/call_thread.h"
#include "addon/communicator_object.h"
#include "comm/hierarchical_communicator.h"
#include "comm/shm_communicator.h"
#include "comm/tcp_communicator.h"
#include "comm/tcp_mesh.h"

namespace raylite {

namespace {

constexpr napi_type_tag kListenerTag = {0x7261796c6974654cull, 0x697374656e657220ull};
constexpr int kRanksMax = 4096;

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

JoinOptions join_options_of(const Napi::Object& options, int size) {
  JoinOptions join{};
  join.size = size;
  join.rank = static_cast<int>(integer_of(options.Get("rank"), "rank", 0, size - 1));
  join.timeout_ms = milliseconds_of(options.Get("timeoutMs"), "timeoutMs");
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
  join.operation_timeout_ms = operation.IsUndefined() ? join.timeout_ms : milliseconds_of(operation, "operationTimeoutMs");
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
    CommunicatorParts parts{joining->take(), thread};
    return type->New({Napi::External<CommunicatorParts>::New(in, &parts)});
  };
  const auto reject = [thread](Napi::Env in, std::exception_ptr error) {
    thread->stop();
    return comm_error(in, error);
  };
  return thread->call(env, Napi::Object::New(env), work, resolve, reject);
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
  join.options.seals = options.Get("seals").ToBoolean();
  join.listener = listener_of(options.Get("listener"));
  return join;
}

}  // namespace

void bind_comm(Napi::Env env, Napi::Object exports) {
  const auto type = std::make_shared<Napi::FunctionReference>(Napi::Persistent(define_communicator(env)));
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
