// Functions of a library that is opened at run time: their types come from its header, nothing is linked.
#pragma once
#include <dlfcn.h>

#include <string>

#include "core/error.h"

#define RL_TABLE_MEMBER(name) decltype(&::name) name = nullptr;
#define RL_TABLE_LOAD(name) this->name = reinterpret_cast<decltype(this->name)>(find(library, #name));

/// struct Name: a function pointer for each of LIST, filled in by its constructor. Throws EngineError("CUDA").
#define RL_LIBRARY_TABLE(Name, LIST)                                                        \
  struct Name {                                                                             \
    LIST(RL_TABLE_MEMBER)                                                                   \
    Name(const char* what, const char* path) {                                              \
      void* library = ::raylite::cuda::open_library(what, path);                            \
      const auto find = [&](void* in, const char* symbol) {                                 \
        void* found = dlsym(in, symbol);                                                    \
        if (found == nullptr) throw ::raylite::EngineError("CUDA", std::string(path) + " has no " + symbol); \
        return found;                                                                       \
      };                                                                                    \
      LIST(RL_TABLE_LOAD)                                                                   \
    }                                                                                       \
  }

namespace raylite::cuda {

/// Stays open to the end of the process.
inline void* open_library(const char* what, const char* path) {
  if (path == nullptr) throw EngineError("CUDA", std::string(what) + " was not found: install the libraries of CUDA 13, or set RAYLITE_CUDA_LIBRARIES to their folder");
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw EngineError("CUDA", std::string(what) + " cannot be opened: " + (reason != nullptr ? reason : path));
  }
  return library;
}

}  // namespace raylite::cuda
