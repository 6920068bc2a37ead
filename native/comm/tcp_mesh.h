// Forms a group over TCP: every pair of ranks gets two connections, one for data and one for bad news, after each side
// has proved to the other that it knows the group's secret (HMAC over both sides' random numbers; the secret never travels). In a group
// that seals, each direction of each connection has a key that follows from the secret and these numbers.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/join.h"
#include "comm/seal.h"

namespace raylite {

/// An open file descriptor with one owner.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void reset() noexcept;

 private:
  int fd_ = -1;
};

struct TcpListener {
  Fd socket;
  int port;
};

/// A socket that waits for the peers of a coming group, on a port that the system chooses. Throws CommError.
TcpListener listen_tcp(const std::string& host);

/// A connection, non-blocking, and what its bytes are sealed by.
struct TcpLink {
  Fd fd;
  Seal out, in;
};

/// The connections to one peer. Both closed for the rank itself.
struct TcpLinks {
  TcpLink data;
  TcpLink control;
};

/// Connects all ranks; returns the links by rank. `addresses[r]` is "host:port" (or "[v6]:port") of rank r's listener.
/// A stranger's connection disturbs nobody. Throws CommError naming the ranks that did not come, or gave another secret.
std::vector<TcpLinks> join_tcp_mesh(const TcpListener& listener, const std::vector<std::string>& addresses,
                                    const std::string& secret, const JoinOptions& options);

}  // namespace raylite
