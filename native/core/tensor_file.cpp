// Pieces of 1 MiB, claimed by threads one after the other: read into a buffer that stays in the cache, converted from there.
#include "core/tensor_file.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace raylite {

namespace {

constexpr std::uint64_t kPieceBytes = 1u << 20;

struct Piece {
  std::size_t read;
  std::uint64_t first;  // number of the tensor
  std::uint64_t count;
};

void read_exactly(int fd, std::uint8_t* to, std::uint64_t bytes, std::uint64_t offset) {
  while (bytes > 0) {
    const ssize_t got = pread(fd, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw EngineError("ENGINE", std::string("the file cannot be read: ") + std::strerror(errno));
    if (got == 0) throw EngineError("ENGINE", "the file ends at byte " + std::to_string(offset));
    to += got, offset += static_cast<std::uint64_t>(got), bytes -= static_cast<std::uint64_t>(got);
  }
}

template <class T>
void cast_piece(const KernelsOf<T>& kernels, const std::uint8_t* from, std::uint8_t* to, DType dtype, std::uint64_t count) {
  const CastArguments<T> cast{reinterpret_cast<const T*>(from), to, static_cast<std::int64_t>(count), dtype};
  kernels.cast.run(cast, Team{});
}

}  // namespace

std::size_t bytes_of(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF16 ? 2 : 4; }

void read_tensors(int fd, const std::vector<TensorRead>& reads, Device& device) {
  const bool is_host = device.is_host();
  const Kernels& kernels = is_host ? device.kernels() : kernels_of(best_isa());
  const int threads = is_host ? device.threads() : static_cast<int>(std::min(8u, std::max(1u, std::thread::hardware_concurrency())));
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < reads.size(); i++) {
    const std::uint64_t most = kPieceBytes / bytes_of(reads[i].from);
    for (std::uint64_t first = 0; first < reads[i].count; first += most) {
      pieces.push_back({i, first, std::min(most, reads[i].count - first)});
    }
  }
  std::atomic<std::size_t> next{0};
  run_parallel(threads, [&](int) {
    std::unique_ptr<std::uint8_t[]> buffer;
    std::unique_ptr<std::uint8_t[]> staged;
    if (!is_host) staged = std::make_unique<std::uint8_t[]>(2 * kPieceBytes);
    for (std::size_t at = next++; at < pieces.size(); at = next++) {
      const Piece& piece = pieces[at];
      const TensorRead& read = reads[piece.read];
      const std::uint64_t offset = read.offset + piece.first * bytes_of(read.from);
      const std::uint64_t to_offset = read.to_offset + piece.first * bytes_of(read.to);
      std::uint8_t* to = is_host ? read.to_memory->data() + to_offset : staged.get();
      if (read.from == read.to) {
        read_exactly(fd, to, piece.count * bytes_of(read.from), offset);
      } else {
        if (!buffer) buffer = std::make_unique<std::uint8_t[]>(kPieceBytes);
        read_exactly(fd, buffer.get(), piece.count * bytes_of(read.from), offset);
        if (read.from == DType::kBF16) cast_piece(kernels.bf16, buffer.get(), to, read.to, piece.count);
        if (read.from == DType::kF16) cast_piece(kernels.f16, buffer.get(), to, read.to, piece.count);
        if (read.from == DType::kF32) cast_piece(kernels.f32, buffer.get(), to, read.to, piece.count);
      }
      if (!is_host) device.write(*read.to_memory, to_offset, to, piece.count * bytes_of(read.to));
    }
  });
}

}  // namespace raylite
