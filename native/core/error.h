// Errors of the engine. `code` is stable and reaches JavaScript as Error.code: PLAN (the bytes of a plan are wrong),
// SHAPE (an op is given tensors it cannot take), ENGINE (a run failed, or the device was misused).
#pragma once
#include <stdexcept>
#include <string>

namespace raylite {

class EngineError : public std::runtime_error {
 public:
  EngineError(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;  // a string literal
};

}  // namespace raylite
