// disk_read, disk_write: pieces of a file to and from memory, as instructions. The file does the work.
#include "core/bind.h"
#include "io/swap_file.h"

namespace raylite {

namespace {

struct DiskArguments {
  bool is_write;
  std::uint8_t* memory;
  std::uint64_t offset, bytes;
  std::shared_ptr<SwapFile> file;
};

void run(const DiskArguments& a, const Team& team) {
  if (team.index != 0) return;
  if (a.is_write) {
    a.file->write(a.offset, a.memory, a.bytes);
  } else {
    a.file->read(a.offset, a.memory, a.bytes);
  }
}

constexpr Kernel<DiskArguments> kKernel{run, nullptr};

Bound bind(Binder& in, DiskArguments a, const Dim& n) {
  a.file = in.file("file");
  a.offset = static_cast<std::uint64_t>(in.integer("offset", 0, std::int64_t{1} << 52));
  in.finish();
  a.bytes = static_cast<std::uint64_t>(n.value);
  const auto address = reinterpret_cast<std::uintptr_t>(a.memory);
  if ((a.offset | a.bytes | address) % SwapFile::kAligned != 0) in.fail_shape("offset, length and memory must be whole pages");
  if (a.offset > a.file->bytes() || a.bytes > a.file->bytes() - a.offset) in.fail_shape("ends behind its file");
  return bound(in, std::move(a), kKernel);
}

}  // namespace

Bound bind_disk_read(Binder& in, const Kernels&) {
  Dim n("n");
  DiskArguments a{};
  a.memory = in.byte_output("y", {&n});
  return bind(in, std::move(a), n);
}

Bound bind_disk_write(Binder& in, const Kernels&) {
  Dim n("n");
  DiskArguments a{};
  a.is_write = true;
  a.memory = const_cast<std::uint8_t*>(in.bytes("x", {&n}));
  return bind(in, std::move(a), n);
}

}  // namespace raylite
