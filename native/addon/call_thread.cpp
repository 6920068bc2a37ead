// Life: the bridge to the event loop owns a share of the CallThread. The thread holds the one acquisition of the bridge
// and releases it as its last act; the bridge's finaliser then joins it. When the environment is torn down first, the
// same finaliser runs while the thread may still be working: it interrupts, joins, and only then lets the bridge go.
#include "addon/call_thread.h"

namespace raylite {

std::shared_ptr<CallThread> CallThread::start(Napi::Env env, std::function<void()> interrupt) {
  const std::shared_ptr<CallThread> self(new CallThread(std::move(interrupt)));
  const auto finalize = [](Napi::Env, std::shared_ptr<CallThread>* share, CallThread*) {
    const std::unique_ptr<std::shared_ptr<CallThread>> owned(share);
    (*share)->stop();
    (*share)->thread_.join();
  };
  self->bridge_ = Bridge::New(env, "raylite call", 0, 1, self.get(), finalize, new std::shared_ptr<CallThread>(self));
  self->bridge_.Unref(env);
  self->thread_ = std::thread([thread = self.get()] { thread->loop(); });
  return self;
}

Napi::Promise CallThread::call(Napi::Env env, Napi::Object keep, Work work, Resolve resolve, Reject reject) {
  std::unique_ptr<Job> job(new Job{std::move(work), std::move(resolve), std::move(reject),
                                   Napi::Promise::Deferred::New(env), Napi::Persistent(keep), nullptr});
  const Napi::Promise promise = job->deferred.Promise();
  if (unsettled_++ == 0) bridge_.Ref(env);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(job));
  }
  has_work_.notify_one();
  return promise;
}

void CallThread::stop() noexcept {
  bool is_needed = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_stopping_) return;
    is_stopping_ = true;
    is_needed = is_working_ || !queue_.empty();
  }
  if (is_needed) interrupt_();
  has_work_.notify_one();
}

void CallThread::loop() {
  for (;;) {
    std::unique_ptr<Job> job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      has_work_.wait(lock, [this] { return is_stopping_ || !queue_.empty(); });
      if (queue_.empty()) break;  // stopped, and everybody has an answer
      job = std::move(queue_.front());
      queue_.pop_front();
      is_working_ = true;
    }
    try {
      job->work();
    } catch (...) {
      job->error = std::current_exception();
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_working_ = false;
    }
    // Once taken, the job belongs to the event loop. Refused: the environment is gone, and its handles with it.
    Job* handed = job.release();
    if (bridge_.NonBlockingCall(handed) != napi_ok) break;
  }
  bridge_.Release();
}

void CallThread::on_settle(Napi::Env env, Napi::Function, CallThread* self, Job* job) {
  if (static_cast<napi_env>(env) == nullptr) return;  // torn down: its handles may not be touched, not even to free them
  const std::unique_ptr<Job> owned(job);
  self->settle(env, *owned);
}

void CallThread::settle(Napi::Env env, Job& job) {
  if (--unsettled_ == 0) bridge_.Unref(env);
  if (job.error) {
    job.deferred.Reject(job.reject(env, job.error).Value());
    return;
  }
  try {
    job.deferred.Resolve(job.resolve(env));
  } catch (const Napi::Error& error) {
    job.deferred.Reject(error.Value());
  }
}

}  // namespace raylite
