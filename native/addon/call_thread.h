// A thread for calls that block, beside the event loop: runs them one after the other and settles a promise for each.
// Not libuv's pool: its few threads could all be waiting for ranks that never get one.
#pragma once
#include <napi.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace raylite {

class CallThread {
 public:
  using Work = std::function<void()>;                       // on the thread; may throw
  using Resolve = std::function<Napi::Value(Napi::Env)>;    // on the JavaScript thread, after Work
  using Reject = std::function<Napi::Error(Napi::Env, std::exception_ptr)>;

  /// `interrupt` makes the work under way return soon; called on the JavaScript thread, when nobody will wait any more.
  static std::shared_ptr<CallThread> start(Napi::Env env, std::function<void()> interrupt);
  ~CallThread() = default;

  /// Queues `work`. Keeps the event loop alive, and `keep` from being collected, until the promise is settled.
  Napi::Promise call(Napi::Env env, Napi::Object keep, Work work, Resolve resolve, Reject reject);
  /// Interrupts work under way, lets what is queued fail or finish, and ends the thread. Does not wait. Safe to repeat.
  void stop() noexcept;

 private:
  struct Job {
    Work work;
    Resolve resolve;
    Reject reject;
    Napi::Promise::Deferred deferred;
    Napi::ObjectReference keep;
    std::exception_ptr error;
  };
  explicit CallThread(std::function<void()> interrupt) : interrupt_(std::move(interrupt)) {}
  void loop();
  void settle(Napi::Env env, Job& job);
  static void on_settle(Napi::Env env, Napi::Function, CallThread* self, Job* job);
  using Bridge = Napi::TypedThreadSafeFunction<CallThread, Job, on_settle>;

  std::function<void()> interrupt_;
  Bridge bridge_;
  std::thread thread_;
  std::size_t unsettled_ = 0;  // JavaScript thread only
  std::mutex mutex_;
  std::condition_variable has_work_;
  std::deque<std::unique_ptr<Job>> queue_;
  bool is_working_ = false;
  bool is_stopping_ = false;
};

}  // namespace raylite
