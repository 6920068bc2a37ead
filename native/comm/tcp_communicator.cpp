// One call at a time: all peers' sockets are moved forward together until every frame of the call has left and arrived.
// Bad news travels on its own connection, which nothing else fills: a rank that fails tells all others whose fault it was
// before it closes anything, and a rank that sees a connection close looks there first.
#include "comm/tcp_communicator.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace raylite {

namespace {

constexpr std::uint32_t kFrameMagic = 0x46434C52;  // "RLCF"
constexpr std::uint32_t kNewsMagic = 0x4E434C52;   // "RLCN"
constexpr std::size_t kFlatBytes = 32 << 10;       // up to here one round trip beats sending less
constexpr std::size_t kTurnBytes = 1 << 20;        // from one peer before the next has its turn
constexpr int kNapMs = 1000;
constexpr int kNewsMs = 500;
constexpr auto kSpin = std::chrono::microseconds(30);

std::string system_text(int error) { return std::generic_category().message(error); }

std::string tampered(const std::string& rank) {
  return "what " + rank + " sent was changed on the way, or was sent by somebody else";
}

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

TcpCommunicator::TcpCommunicator(const TcpListener& listener, const std::vector<std::string>& addresses,
                                 const std::string& secret, const JoinOptions& options)
    : Communicator(options.names),
      rank_(options.rank),
      size_(options.size),
      operation_timeout_ms_(options.operation_timeout_ms),
      peers_(static_cast<std::size_t>(options.size)),
      wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      scratch_(options.size) {
  std::vector<TcpLinks> links = join_tcp_mesh(listener, addresses, secret, options);
  for (int rank = 0; rank < size_; ++rank) {
    peer(rank).links = std::move(links[static_cast<std::size_t>(rank)]);
    if (peer(rank).links.data.out.seals()) peer(rank).out_sealed.reserve(sizeof(FrameHeader) + kChunkBytes + 2 * Seal::kTagBytes);
  }
}

/// Peers that watch shall know it from a process that ended.
TcpCommunicator::~TcpCommunicator() { tell_all({kNewsMagic, News::Kind::kLeave, name(rank_), 0, 0, 0, {}}); }

void TcpCommunicator::all_reduce(void* whole, std::size_t count, Number number, ReduceOp op) {
  auto* data = static_cast<std::uint8_t*>(whole);
  const std::size_t width = width_of(number), bytes = count * width;
  const Signature signature = Signature::all_reduce(count, number, op);
  if (size_ == 2 || bytes <= kFlatBytes) {
    // Two ranks send as much either way; this one has a single phase.
    FlatExchange exchange(rank_, size_, data, bytes, number, op, scratch_);
    return run(signature, exchange);
  }
  const auto ranks = static_cast<std::size_t>(size_);
  const std::size_t slice_bytes = (count + ranks - 1) / ranks * width;
  SliceExchange exchange(rank_, size_, data, bytes, slice_bytes, {true, true}, number, op, scratch_);
  run(signature, exchange);
}

void TcpCommunicator::reduce_scatter(void* whole, std::size_t slice_count, Number number) {
  auto* data = static_cast<std::uint8_t*>(whole);
  const std::size_t slice_bytes = slice_count * width_of(number), bytes = slice_bytes * static_cast<std::size_t>(size_);
  SliceExchange exchange(rank_, size_, data, bytes, slice_bytes, {true, false}, number, ReduceOp::kSum, scratch_);
  run(Signature::reduce_scatter(slice_count, number), exchange);
}

void TcpCommunicator::all_gather(void* whole, std::size_t slice_bytes) {
  auto* data = static_cast<std::uint8_t*>(whole);
  const std::size_t bytes = slice_bytes * static_cast<std::size_t>(size_);
  SliceExchange exchange(rank_, size_, data, bytes, slice_bytes, {false, true}, Number::kF32, ReduceOp::kSum, scratch_);
  run(Signature::all_gather(slice_bytes), exchange);
}

void TcpCommunicator::all_to_all(const void* in, void* out, std::size_t slice_bytes) {
  const auto* from = static_cast<const std::uint8_t*>(in);
  auto* to = static_cast<std::uint8_t*>(out);
  std::vector<DirectExchange::Route> routes;
  for (std::size_t start = 0; routes.size() < peers_.size(); start += slice_bytes) {
    routes.push_back({from + start, slice_bytes, true, to + start, slice_bytes, true});
  }
  const std::size_t own = static_cast<std::size_t>(rank_) * slice_bytes;
  if (slice_bytes > 0) std::memcpy(to + own, from + own, slice_bytes);
  move(Signature::all_to_all(slice_bytes), std::move(routes));
}

void TcpCommunicator::broadcast(void* whole, std::size_t bytes, int root) {
  auto* data = static_cast<std::uint8_t*>(whole);
  std::vector<DirectExchange::Route> routes(peers_.size());
  if (rank_ == root) std::fill(routes.begin(), routes.end(), DirectExchange::Route{data, bytes, true});
  else routes[static_cast<std::size_t>(root)] = {nullptr, 0, false, data, bytes, true};
  move(Signature::broadcast(bytes, root), std::move(routes));
}

void TcpCommunicator::send_receive(const Transfer& transfer) {
  std::vector<DirectExchange::Route> routes(peers_.size());
  if (transfer.to >= 0) {
    DirectExchange::Route& route = routes[static_cast<std::size_t>(transfer.to)];
    route.out = static_cast<const std::uint8_t*>(transfer.send);
    route.out_bytes = transfer.send_bytes;
    route.is_sent = true;
  }
  if (transfer.from >= 0) {
    DirectExchange::Route& route = routes[static_cast<std::size_t>(transfer.from)];
    route.in = static_cast<std::uint8_t*>(transfer.receive);
    route.in_bytes = transfer.receive_bytes;
    route.is_received = true;
  }
  DirectExchange exchange(std::move(routes));
  run(Signature::transfer(transfer.send_bytes), Signature::transfer(transfer.receive_bytes), exchange);
}

void TcpCommunicator::move(const Signature& signature, std::vector<DirectExchange::Route> routes) {
  DirectExchange exchange(std::move(routes));
  run(signature, exchange);
}

void TcpCommunicator::barrier() {
  FlatExchange exchange(rank_, size_, nullptr, 0, Number::kF32, ReduceOp::kSum, scratch_);
  run(Signature::barrier(), exchange);
}

void TcpCommunicator::run(const Signature& out, const Signature& in, Exchange& exchange) {
  const std::lock_guard<std::mutex> lock(one_call_);
  check_abort();
  current_ = in;
  int to = -1, from = -1;
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    Peer& other = peer(rank);
    read_news(rank);
    other.frames_to_send = exchange.frames_out(rank);
    other.frames_to_receive = exchange.frames_in(rank);
    if (other.frames_to_send > 0) to = rank;
    if (other.frames_to_receive > 0) from = rank;
    other.calls_out += other.frames_to_send > 0;
    other.calls_in += other.frames_to_receive > 0;
  }
  const bool is_transfer = in.collective == Collective::kTransfer;
  const Entered entered(*this, current_, is_transfer ? to : -1, is_transfer ? from : -1);
  Clock::time_point last_progress = Clock::now();
  bool is_first_look = true;
  while (!is_done()) {
    if (advance(exchange, out, in) == Progress::kSome) {
      is_first_look = true;
      continue;
    }
    const auto now = Clock::now();
    if (is_first_look) last_progress = now;
    is_first_look = false;
    if (now - last_progress < kSpin) continue;
    const double waited_ms = std::chrono::duration<double, std::milli>(now - last_progress).count();
    if (waited_ms >= operation_timeout_ms_) fail_if_late(waited_ms);
    wait(static_cast<int>(std::max(1.0, std::min<double>(kNapMs, operation_timeout_ms_ - waited_ms + 1))));
    check_abort();
  }
}

bool TcpCommunicator::is_done() const {
  return std::all_of(peers_.begin(), peers_.end(), [](const Peer& peer) {
    return peer.frames_to_send == 0 && peer.frames_to_receive == 0;
  });
}

TcpCommunicator::Progress TcpCommunicator::advance(Exchange& exchange, const Signature& out, const Signature& in) {
  Progress progress = Progress::kNone;
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    if (send_some(rank, exchange, out) == Progress::kSome) progress = Progress::kSome;
    if (receive_some(rank, exchange, in) == Progress::kSome) progress = Progress::kSome;
  }
  return progress;
}

TcpCommunicator::Progress TcpCommunicator::send_some(int rank, Exchange& exchange, const Signature& signature) {
  Peer& to = peer(rank);
  Progress progress = Progress::kNone;
  for (std::size_t turn = 0; to.frames_to_send > 0 && turn < kTurnBytes;) {
    if (!to.is_sending) {
      if (!exchange.next(rank, to.out)) break;
      to.out_header = {kFrameMagic, to.calls_out, signature, to.out.phase, to.out.chunk, to.out.bytes};
      to.out_bytes = 0;
      to.is_sending = true;
      if (to.links.data.out.seals()) seal_frame(to);
    }
    // What is sealed is one piece, else the data go from where they lie.
    const bool is_sealed = !to.out_sealed.empty();
    const auto* head = is_sealed ? to.out_sealed.data() : reinterpret_cast<const std::uint8_t*>(&to.out_header);
    const std::size_t head_bytes = is_sealed ? to.out_sealed.size() : sizeof(FrameHeader);
    const std::size_t data_bytes = is_sealed ? 0 : to.out.bytes;
    iovec parts[2];
    int count = 0;
    if (to.out_bytes < head_bytes) {
      parts[count++] = {const_cast<std::uint8_t*>(head) + to.out_bytes, head_bytes - to.out_bytes};
    }
    const std::size_t data_done = to.out_bytes > head_bytes ? to.out_bytes - head_bytes : 0;
    if (data_done < data_bytes) {
      const char* data = reinterpret_cast<const char*>(to.out.data) + data_done;
      parts[count++] = {const_cast<char*>(data), data_bytes - data_done};
    }
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = static_cast<std::size_t>(count);
    const ssize_t sent = sendmsg(to.links.data.fd.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (would_block(errno)) break;
      peer_failed(rank, system_text(errno));
    }
    progress = Progress::kSome;
    turn += static_cast<std::size_t>(sent);
    to.out_bytes += static_cast<std::size_t>(sent);
    bytes_sent_.fetch_add(static_cast<std::uint64_t>(sent), std::memory_order_relaxed);
    if (to.out_bytes == head_bytes + data_bytes) {
      to.is_sending = false;
      to.frames_to_send -= 1;
      exchange.sent(rank, to.out);
    }
  }
  return progress;
}

TcpCommunicator::Progress TcpCommunicator::receive_some(int rank, Exchange& exchange, const Signature& signature) {
  Peer& from = peer(rank);
  Progress progress = Progress::kNone;
  from.is_stalled = false;
  for (std::size_t turn = 0; from.frames_to_receive > 0 && turn < kTurnBytes;) {
    const std::size_t tag_bytes = from.links.data.in.tag_bytes();
    const std::size_t head_bytes = sizeof(FrameHeader) + tag_bytes;
    if (from.in_bytes == head_bytes && !from.in_data && !find_place(rank, exchange, signature)) {
      from.is_stalled = true;
      break;
    }
    const bool is_header = from.in_bytes < head_bytes;
    const std::size_t data_bytes = is_header ? 0 : from.in_header.bytes;
    const std::size_t whole_bytes = head_bytes + data_bytes + (data_bytes > 0 ? tag_bytes : 0);
    if (from.in_bytes < whole_bytes) {
      // The header, the data, and what seals them, each to its place.
      const std::size_t at = from.in_bytes, data_end = head_bytes + data_bytes;
      std::uint8_t* const to = is_header       ? from.in_header_sealed + at
                               : at < data_end ? from.in_data + (at - head_bytes)
                                               : from.in_tag + (at - data_end);
      const std::size_t wanted = (is_header ? head_bytes : at < data_end ? data_end : whole_bytes) - at;
      const ssize_t got = recv(from.links.data.fd.get(), to, wanted, MSG_DONTWAIT);
      if (got < 0 && would_block(errno)) break;
      if (got <= 0) peer_failed(rank, got == 0 ? "its process ended or it left" : system_text(errno));
      progress = Progress::kSome;
      turn += static_cast<std::size_t>(got);
      from.in_bytes += static_cast<std::size_t>(got);
      if (is_header && from.in_bytes == head_bytes) open_header(rank);
    }
    if (!is_header && from.in_bytes == whole_bytes) {
      if (tag_bytes > 0 && data_bytes > 0 && !from.links.data.in.open(from.in_data, data_bytes, from.in_tag)) {
        fail(rank, tampered(rank_name(rank)));
      }
      from.in_bytes = 0;
      from.in_data = nullptr;
      from.frames_to_receive -= 1;
      progress = Progress::kSome;
      exchange.arrived(rank, from.in_header.phase, from.in_header.chunk);
    }
  }
  return progress;
}

/// A frame as it goes over the wire of a group that seals: the header, its tag, the data, their tag.
void TcpCommunicator::seal_frame(Peer& to) {
  Seal& seal = to.links.data.out;
  const std::size_t head_bytes = sizeof(FrameHeader) + Seal::kTagBytes;
  to.out_sealed.resize(head_bytes + (to.out.bytes > 0 ? to.out.bytes + Seal::kTagBytes : 0));
  seal.close(&to.out_header, sizeof(FrameHeader), to.out_sealed.data());
  if (to.out.bytes > 0) seal.close(to.out.data, to.out.bytes, to.out_sealed.data() + head_bytes);
}

/// A header is whole.
void TcpCommunicator::open_header(int rank) {
  Peer& from = peer(rank);
  Seal& seal = from.links.data.in;
  std::uint8_t* const bytes = from.in_header_sealed;
  if (seal.seals() && !seal.open(bytes, sizeof(FrameHeader), bytes + sizeof(FrameHeader))) fail(rank, tampered(rank_name(rank)));
  std::memcpy(&from.in_header, bytes, sizeof(FrameHeader));
}

/// False: the frame whose header came has to wait. Throws when it has no business here.
bool TcpCommunicator::find_place(int rank, Exchange& exchange, const Signature& signature) {
  Peer& from = peer(rank);
  const FrameHeader& header = from.in_header;
  if (header.magic != kFrameMagic) fail(rank, rank_name(rank) + " sent something that is no frame");
  if (header.signature != signature || header.call != from.calls_in) {
    fail(rank, mismatch(rank_name(rank), header.signature, rank_name(rank_), signature, place()));
  }
  std::uint8_t* to = nullptr;
  switch (exchange.place(rank, header.phase, header.chunk, header.bytes, to)) {
    case Exchange::Place::kLater:
      return false;
    case Exchange::Place::kWrong:
      fail(rank, rank_name(rank) + " sent a frame out of order");
    case Exchange::Place::kReady:
      break;
  }
  from.in_data = to;
  return true;
}

void TcpCommunicator::wait(int milliseconds) {
  std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}};
  for (const Peer& other : peers_) {
    short events = 0;
    if (other.is_sending) events |= POLLOUT;
    if (other.frames_to_receive > 0 && !other.is_stalled) events |= POLLIN;
    // A descriptor of which nothing is wanted is left out: its hang-up would wake this loop for ever.
    polled.push_back({events ? other.links.data.fd.get() : -1, events, 0});
    polled.push_back({other.is_control_over ? -1 : other.links.control.fd.get(), POLLIN, 0});
  }
  if (poll(polled.data(), polled.size(), milliseconds) <= 0) return;
  for (int rank = 0; rank < size_; ++rank) {
    if (polled[2 + 2 * static_cast<std::size_t>(rank)].revents != 0) read_news(rank);
  }
}

/// Reads what the peer has to say, if anything; a closed connection alone says nothing (the peer may be done).
void TcpCommunicator::read_news(int rank) {
  const std::lock_guard<std::mutex> lock(news_mutex_);
  Peer& from = peer(rank);
  Seal& seal = from.links.control.in;
  const std::size_t whole_bytes = sizeof(News) + seal.tag_bytes();
  while (!from.is_control_over) {
    const ssize_t got = recv(from.links.control.fd.get(), from.news + from.news_bytes, whole_bytes - from.news_bytes, MSG_DONTWAIT);
    if (got < 0 && would_block(errno)) return;
    if (got > 0) from.news_bytes += static_cast<std::size_t>(got);
    if (got > 0 && from.news_bytes < whole_bytes) continue;
    if (got > 0 && seal.seals() && !seal.open(from.news, sizeof(News), from.news + sizeof(News))) {
      from.is_control_over = true;
      set_aborted(name(rank), tampered(rank_name(rank)));
      check_abort();
    }
    News news;
    std::memcpy(&news, from.news, sizeof(News));
    if (got <= 0 || news.magic != kNewsMagic) {
      from.is_control_over = true;
      return;
    }
    from.news_bytes = 0;
    switch (news.kind) {
      case News::Kind::kBeat:
        from.beats += 1;
        from.standing = {true, news.is_waiting != 0, news.host_calls, news.device_calls};
        break;
      case News::Kind::kLeave:
        from.has_left = true;
        break;
      case News::Kind::kFailure: {
        const std::string reason(news.reason, strnlen(news.reason, sizeof(news.reason)));
        set_aborted(news.rank, reason);
        check_abort();
      }
    }
  }
}

Standing TcpCommunicator::standing_of(int rank) const {
  const std::lock_guard<std::mutex> lock(news_mutex_);
  const Peer& other = peers_[static_cast<std::size_t>(rank)];
  Standing standing = other.standing;
  standing.is_known = standing.is_known && !other.has_left;
  return standing;
}

void TcpCommunicator::watch(const Standing& own) {
  check_abort();
  tell_all({kNewsMagic, News::Kind::kBeat, name(rank_), own.host, own.device, own.is_waiting, {}});
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    read_news(rank);
    bool has_ended = false, is_silent = false;
    {
      const std::lock_guard<std::mutex> lock(news_mutex_);
      Peer& other = peer(rank);
      if (other.has_left) continue;
      has_ended = other.is_control_over;
      is_silent = other.pulse.is_silent_at(other.beats);
    }
    if (has_ended) fail(rank, "the process of " + rank_name(rank) + " ended");
    if (is_silent) fail(rank, stands_still(rank_name(rank)));
  }
}

void TcpCommunicator::peer_failed(int rank, const std::string& what) {
  check_abort();
  // It may have closed because another rank failed, and said so; all its connections close when its process ends.
  const Deadline deadline(kNewsMs);
  while (!peer(rank).is_control_over && !deadline.expired()) {
    pollfd polled{peer(rank).links.control.fd.get(), POLLIN, 0};
    if (poll(&polled, 1, deadline.left_ms(kNewsMs)) > 0) read_news(rank);
  }
  fail(rank, "lost " + rank_name(rank) + ": " + what + context());
}

/// The time limit is over.
void TcpCommunicator::fail_if_late(double waited_ms) {
  // Who has sent nothing of this call at all holds up the others too.
  int latest = -1;
  for (int rank = 0; rank < size_; ++rank) {
    const bool is_waited_for = rank != rank_ && (peer(rank).frames_to_receive > 0 || peer(rank).frames_to_send > 0);
    if (!is_waited_for) continue;
    if (latest < 0 || peer(rank).frames_to_receive > peer(latest).frames_to_receive) latest = rank;
  }
  const int late = blamed(latest, waited_ms - operation_timeout_ms_);
  if (late < 0) return;
  set_aborted(late, "rank " + std::to_string(late) + " is late: nothing came from it for " + milliseconds(waited_ms) + context());
  check_abort();
}

/// What the call under way was doing, for messages.
std::string TcpCommunicator::context() const {
  const std::string where = *place() == '\0' ? "" : std::string(" at ") + place();
  return " while " + rank_name(rank_) + " waited for it in " + current_.text() + where;
}

void TcpCommunicator::fail(int rank, const std::string& reason) {
  set_aborted(name(rank), reason);
  check_abort();
  throw CommError(reason, name(rank));
}

/// The first reason stays. Tells every peer, and wakes the call under way.
void TcpCommunicator::set_aborted(int rank, const std::string& reason) noexcept {
  {
    const std::lock_guard<std::mutex> lock(abort_mutex_);
    if (is_aborted_.load()) return;
    abort_rank_ = rank;
    abort_reason_ = reason;
    is_aborted_.store(true);
  }
  News news{kNewsMagic, News::Kind::kFailure, rank, 0, 0, 0, {}};
  std::memcpy(news.reason, reason.data(), std::min(reason.size(), sizeof(news.reason) - 1));
  tell_all(news);
  const std::uint64_t one = 1;
  if (write(wake_.get(), &one, sizeof(one)) < 0) return;  // full means: it is awake already
}

/// Always fits: the connection carries nothing else. Where the peer is gone there is nobody to tell.
void TcpCommunicator::tell_all(const News& news) noexcept {
  const std::lock_guard<std::mutex> lock(abort_mutex_);
  for (Peer& other : peers_) {
    TcpLink& link = other.links.control;
    if (!link.fd.is_open()) continue;
    if (!link.out.seals()) {
      send(link.fd.get(), &news, sizeof(news), MSG_NOSIGNAL | MSG_DONTWAIT);
      continue;
    }
    std::uint8_t sealed[sizeof(News) + Seal::kTagBytes];
    try {
      link.out.close(&news, sizeof(News), sealed);
    } catch (const CommError&) {
      continue;  // the peer notices that nothing comes
    }
    send(link.fd.get(), sealed, sizeof(sealed), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
}

void TcpCommunicator::check_abort() {
  if (!is_aborted_.load()) return;
  const std::lock_guard<std::mutex> lock(abort_mutex_);
  throw CommError(abort_reason_, abort_rank_);
}

}  // namespace raylite
