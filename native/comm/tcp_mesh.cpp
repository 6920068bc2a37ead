// The handshake of one connection (C connects: the higher rank; L listens: the lower rank):
//
//   C → L  hello      magic, version, C's rank, size, channel, whether C seals, C's random number
//   L → C  challenge  L's random number, proof of L = HMAC(secret, "listener" hello random)
//   C → L  answer     proof of C = HMAC(secret, "connector" hello random)
//   L → C  welcome    one byte
//
// What each direction is sealed by, where both seal: HMAC(secret, "C to L" or "L to C", hello random), which no other connection has.
// Messages have fixed lengths, so that a stranger can make nobody allocate or wait: whoever is silent for 5 s is cut.
#include "comm/tcp_mesh.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "comm/communicator.h"
#include "comm/sha256.h"

namespace raylite {

void Fd::reset() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

namespace {

constexpr std::uint32_t kMagic = 0x434D4C52;  // "RLMC"
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kStrangersMax = 256;
constexpr double kStrangerMs = 5000;
constexpr int kNapMs = 50;
constexpr int kRetryMs = 50;
constexpr char kWelcome = 'W';

struct Hello {
  std::uint32_t magic, version, rank, size, channel, seals;
  std::uint8_t random[32];
};
struct Challenge {
  std::uint8_t random[32];
  Digest proof;
};

std::string system_text(int error) { return std::generic_category().message(error); }

template <typename Message>
std::string bytes_of(const Message& message) {
  return std::string(reinterpret_cast<const char*>(&message), sizeof(message));
}

void fill_random(std::uint8_t (&bytes)[32]) {
  if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) throw CommError("the system has no random numbers", -1);
}

Digest prove(const std::string& secret, const char* side, const Hello& hello, const std::uint8_t (&random)[32]) {
  return hmac_sha256(secret, side + bytes_of(hello) + bytes_of(random));
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses resolve(const std::string& host, const std::string& port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) throw CommError("cannot find the address of \"" + host + "\": " + gai_strerror(error), -1);
  return Addresses(found, freeaddrinfo);
}

/// "host:port" or "[host]:port".
std::pair<std::string, std::string> split_address(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) {
    throw CommError("address: expected \"host:port\", got \"" + address + "\"", -1);
  }
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return {host, address.substr(colon + 1)};
}

void set_option(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof(value)); }

/// Small messages at once; a peer whose machine vanished is noticed within half a minute even where nothing is sent.
void tune(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 30000);
}

/// One connection on its way to becoming a link.
struct Connection {
  enum class State { kConnecting, kAwaitHello, kAwaitChallenge, kAwaitAnswer, kAwaitWelcome };
  Fd fd;
  State state;
  int rank = -1;  // of the other side; known from the start only where this side connects
  int channel = 0;
  Hello hello{};
  std::uint8_t random[32]{};
  std::string received;
  Deadline patience{kStrangerMs};
};

/// What is still to be connected to a lower rank.
struct Call {
  int rank;
  int channel;
  Clock::time_point next_try;
};

class Mesh {
 public:
  Mesh(const TcpListener& listener, const std::vector<std::string>& addresses, const std::string& secret,
       const JoinOptions& options)
      : listener_(listener),
        secret_(secret),
        options_(options),
        links_(static_cast<std::size_t>(options.size)),
        notes_(static_cast<std::size_t>(options.size)) {
    for (int rank = 0; rank < options.size; ++rank) {
      const auto [host, port] = split_address(addresses[static_cast<std::size_t>(rank)]);
      targets_.push_back(rank < options.rank ? resolve(host, port, AI_NUMERICSERV) : Addresses(nullptr, freeaddrinfo));
      if (rank >= options.rank) continue;
      for (int channel = 0; channel < 2; ++channel) calls_.push_back({rank, channel, Clock::now()});
    }
  }

  std::vector<TcpLinks> join() {
    const Deadline deadline(options_.timeout_ms);
    while (!missing().empty()) {
      if (options_.is_cancelled->load()) throw CommError("joining the group was cancelled", -1);
      if (deadline.expired()) fail_missing();
      call_due();
      poll_once(deadline.left_ms(calls_.empty() ? kNapMs : kRetryMs));
    }
    return std::move(links_);
  }

 private:
  std::vector<int> missing() const {
    std::vector<int> ranks;
    for (int rank = 0; rank < options_.size; ++rank) {
      const TcpLinks& links = links_[static_cast<std::size_t>(rank)];
      if (rank != options_.rank && !(links.data.fd.is_open() && links.control.fd.is_open())) ranks.push_back(rank);
    }
    return ranks;
  }

  [[noreturn]] void fail_missing() const {
    const std::vector<int> ranks = missing();
    std::string text = names_of(ranks, options_) + " did not join the group within " + milliseconds(options_.timeout_ms);
    for (const int rank : ranks) {
      const std::string& note = notes_[static_cast<std::size_t>(rank)];
      if (!note.empty()) text += " (rank " + std::to_string(rank) + ": " + note + ")";
    }
    if (!stranger_note_.empty()) text += " (" + stranger_note_ + ")";
    throw CommError(text, ranks.front());
  }

  void call_due() {
    for (std::size_t i = 0; i < calls_.size();) {
      if (Clock::now() < calls_[i].next_try) {
        ++i;
        continue;
      }
      const Call call = calls_[i];
      calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(i));
      begin(call);
    }
  }

  void begin(const Call& call) {
    const addrinfo* to = targets_[static_cast<std::size_t>(call.rank)].get();
    Connection connection{Fd(socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
                          Connection::State::kConnecting};
    connection.rank = call.rank;
    connection.channel = call.channel;
    if (!connection.fd.is_open()) throw CommError("cannot open a socket: " + system_text(errno), -1);
    tune(connection.fd.get());
    if (connect(connection.fd.get(), to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS) {
      return again(connection, system_text(errno));
    }
    connections_.push_back(std::move(connection));
  }

  /// Puts a call that failed back into the queue; forgets a stranger's connection.
  void again(Connection& connection, const std::string& note) {
    if (connection.state == Connection::State::kAwaitHello || connection.state == Connection::State::kAwaitAnswer) return;
    notes_[static_cast<std::size_t>(connection.rank)] = note;
    calls_.push_back({connection.rank, connection.channel, Clock::now() + std::chrono::milliseconds(kRetryMs)});
  }

  void poll_once(int milliseconds) {
    std::vector<pollfd> polled;
    const std::size_t known = connections_.size();
    for (const Connection& connection : connections_) {
      const short events = connection.state == Connection::State::kConnecting ? POLLOUT : POLLIN;
      polled.push_back({connection.fd.get(), events, 0});
    }
    if (known < kStrangersMax) polled.push_back({listener_.socket.get(), POLLIN, 0});
    poll(polled.data(), polled.size(), milliseconds);
    for (std::size_t i = 0; i < known; ++i) {
      Connection& connection = connections_[i];
      const bool is_over = polled[i].revents != 0 ? !advance(connection) : connection.patience.expired();
      if (!is_over) continue;
      if (polled[i].revents == 0) again(connection, "it did not answer");
      connection.fd.reset();
    }
    if (known < kStrangersMax && polled.back().revents != 0) accept_all();
    connections_.erase(std::remove_if(connections_.begin(), connections_.end(),
                                      [](const Connection& connection) { return !connection.fd.is_open(); }),
                       connections_.end());
  }

  void accept_all() {
    while (connections_.size() < kStrangersMax) {
      Fd fd(accept4(listener_.socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.is_open()) return;
      tune(fd.get());
      connections_.push_back(Connection{std::move(fd), Connection::State::kAwaitHello});
    }
  }

  /// Goes as far as the bytes allow. False: the connection is over (it became a link, failed, or was refused).
  bool advance(Connection& connection) {
    using State = Connection::State;
    switch (connection.state) {
      case State::kConnecting: {
        int error = 0;
        socklen_t length = sizeof(error);
        getsockopt(connection.fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
        if (error != 0) return again(connection, system_text(error)), false;
        connection.hello = {kMagic, kVersion, static_cast<std::uint32_t>(options_.rank),
                            static_cast<std::uint32_t>(options_.size), static_cast<std::uint32_t>(connection.channel), options_.seals ? 1u : 0u, {}};
        fill_random(connection.hello.random);
        connection.state = State::kAwaitChallenge;
        return send_all(connection, bytes_of(connection.hello));
      }
      case State::kAwaitHello: {
        if (!receive(connection, sizeof(Hello))) return connection.fd.is_open();
        Hello& hello = connection.hello;
        std::memcpy(&hello, connection.received.data(), sizeof(hello));
        connection.received.clear();
        const auto size = static_cast<std::uint32_t>(options_.size), self = static_cast<std::uint32_t>(options_.rank);
        if (hello.magic != kMagic || hello.version != kVersion || hello.size != size || hello.rank >= size ||
            hello.rank <= self || hello.channel > 1) {
          return false;
        }
        connection.rank = static_cast<int>(hello.rank);
        connection.channel = static_cast<int>(hello.channel);
        if ((hello.seals != 0) != options_.seals) {
          stranger_note_ = "rank " + std::to_string(connection.rank) + (options_.seals ? " does not encrypt, this rank does" : " encrypts, this rank does not");
          return false;
        }
        Challenge challenge{};
        fill_random(challenge.random);
        std::memcpy(connection.random, challenge.random, sizeof(challenge.random));
        challenge.proof = prove(secret_, "listener", hello, connection.random);
        connection.state = State::kAwaitAnswer;
        return send_all(connection, bytes_of(challenge));
      }
      case State::kAwaitChallenge: {
        if (!receive(connection, sizeof(Challenge))) return connection.fd.is_open();
        Challenge challenge{};
        std::memcpy(&challenge, connection.received.data(), sizeof(challenge));
        connection.received.clear();
        if (!equal_in_constant_time(challenge.proof, prove(secret_, "listener", connection.hello, challenge.random))) {
          throw CommError("rank " + std::to_string(connection.rank) + " has another secret than rank " +
                              std::to_string(options_.rank),
                          connection.rank);
        }
        std::memcpy(connection.random, challenge.random, sizeof(challenge.random));
        connection.state = State::kAwaitWelcome;
        return send_all(connection, bytes_of(prove(secret_, "connector", connection.hello, challenge.random)));
      }
      case State::kAwaitAnswer: {
        if (!receive(connection, sizeof(Digest))) {
          if (!connection.fd.is_open()) stranger_note_ = "a connection that called itself rank " + std::to_string(connection.rank) + " had another secret";
          return connection.fd.is_open();
        }
        Digest proof;
        std::memcpy(proof.data(), connection.received.data(), proof.size());
        TcpLink& place = link(connection);
        if (!equal_in_constant_time(proof, prove(secret_, "connector", connection.hello, connection.random))) {
          stranger_note_ = "a connection that called itself rank " + std::to_string(connection.rank) + " had another secret";
          return false;
        }
        if (place.fd.is_open() || !send_all(connection, std::string(1, kWelcome))) return false;
        finish(connection, "L to C", "C to L");
        return false;
      }
      case State::kAwaitWelcome: {
        if (!receive(connection, 1)) return connection.fd.is_open();
        if (connection.received[0] != kWelcome) return again(connection, "it refused the connection"), false;
        finish(connection, "C to L", "L to C");
        return false;
      }
    }
    return false;
  }

  /// The connection becomes a link.
  void finish(Connection& connection, const char* out, const char* in) {
    TcpLink& place = link(connection);
    if (options_.seals) {
      place.out = Seal(prove(secret_, out, connection.hello, connection.random), Seal::Side::kSender);
      place.in = Seal(prove(secret_, in, connection.hello, connection.random), Seal::Side::kReceiver);
    }
    place.fd = std::move(connection.fd);
  }

  TcpLink& link(const Connection& connection) {
    TcpLinks& links = links_[static_cast<std::size_t>(connection.rank)];
    return connection.channel == 0 ? links.data : links.control;
  }

  /// True once `bytes` bytes are there, and not one more is taken. Closes the connection when it ended before.
  bool receive(Connection& connection, std::size_t bytes) {
    char buffer[sizeof(Challenge) + sizeof(Hello)];
    const ssize_t got = recv(connection.fd.get(), buffer, bytes - connection.received.size(), 0);
    if (got > 0) connection.received.append(buffer, static_cast<std::size_t>(got));
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
      again(connection, got == 0 ? "it closed the connection" : system_text(errno));
      connection.fd.reset();
      return false;
    }
    return connection.received.size() == bytes;
  }

  /// A handshake message always fits into the empty buffer of a new socket.
  bool send_all(Connection& connection, const std::string& bytes) {
    if (send(connection.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size())) return true;
    again(connection, system_text(errno));
    return false;
  }

  const TcpListener& listener_;
  const std::string& secret_;
  const JoinOptions& options_;
  std::vector<Addresses> targets_;
  std::vector<Call> calls_;
  std::vector<Connection> connections_;
  std::vector<TcpLinks> links_;
  std::vector<std::string> notes_;  // by rank: why the last attempt failed
  std::string stranger_note_;
};

}  // namespace

TcpListener listen_tcp(const std::string& host) {
  const Addresses found = resolve(host, "0", AI_PASSIVE | AI_NUMERICSERV);
  Fd fd(socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_storage bound{};
  socklen_t length = sizeof(bound);
  if (!fd.is_open() || bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0 || listen(fd.get(), SOMAXCONN) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0) {
    throw CommError("cannot listen on " + host + ": " + system_text(errno), -1);
  }
  const int port = bound.ss_family == AF_INET6 ? ntohs(reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port)
                                               : ntohs(reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  return {std::move(fd), port};
}

std::vector<TcpLinks> join_tcp_mesh(const TcpListener& listener, const std::vector<std::string>& addresses,
                                    const std::string& secret, const JoinOptions& options) {
  return Mesh(listener, addresses, secret, options).join();
}

}  // namespace raylite
