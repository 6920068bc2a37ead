// OpenSSL's functions are looked up by name: every Node has them (its own, or the system's), and nothing is built or shipped for them.
#include "comm/seal.h"

#include <dlfcn.h>

#include <cstring>

#include "comm/communicator.h"

namespace raylite {

namespace {

constexpr int kNonceBytes = 12;
// Of EVP_CIPHER_CTX_ctrl, the same since OpenSSL 1.0.1.
constexpr int kGetTag = 0x10, kSetTag = 0x11;

/// The part of openssl/evp.h that is needed.
struct Cipher {
  void* (*make)();
  void (*free)(void*);
  const void* (*aes_256_gcm)();
  int (*init)(void*, const void*, void*, const unsigned char*, const unsigned char*, int);
  int (*update)(void*, unsigned char*, int*, const unsigned char*, int);
  int (*final)(void*, unsigned char*, int*);
  int (*control)(void*, int, int, void*);

  bool is_whole() const { return make && free && aes_256_gcm && init && update && final && control; }
};

template <typename Function>
void find(Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

const Cipher& cipher() {
  static const Cipher found = [] {
    Cipher cipher{};
    find(cipher.make, "EVP_CIPHER_CTX_new");
    find(cipher.free, "EVP_CIPHER_CTX_free");
    find(cipher.aes_256_gcm, "EVP_aes_256_gcm");
    find(cipher.init, "EVP_CipherInit_ex");
    find(cipher.update, "EVP_CipherUpdate");
    find(cipher.final, "EVP_CipherFinal_ex");
    find(cipher.control, "EVP_CIPHER_CTX_ctrl");
    return cipher;
  }();
  return found;
}

[[noreturn]] void fail(const char* what) { throw CommError(std::string("the cipher of the connections failed: ") + what, -1); }

}  // namespace

void Seal::Free::operator()(void* context) const noexcept { cipher().free(context); }

Seal::Seal(const Digest& key, Side side) {
  if (!cipher().is_whole()) {
    throw CommError("this Node has no OpenSSL to encrypt the group's connections with; RAYLITE_TLS=0 on all nodes does without", -1);
  }
  context_.reset(cipher().make());
  const int encrypts = side == Side::kSender ? 1 : 0;
  if (!context_ || cipher().init(context_.get(), cipher().aes_256_gcm(), nullptr, key.data(), nullptr, encrypts) != 1) {
    fail("it could not be set up");
  }
}

void Seal::begin() {
  unsigned char nonce[kNonceBytes]{};
  std::memcpy(nonce + kNonceBytes - sizeof(messages_), &messages_, sizeof(messages_));
  messages_ += 1;
  if (cipher().init(context_.get(), nullptr, nullptr, nullptr, nonce, -1) != 1) fail("a nonce was refused");
}

void Seal::close(const void* in, std::size_t bytes, std::uint8_t* out) {
  begin();
  int done = 0, rest = 0;
  const bool is_done =
      cipher().update(context_.get(), out, &done, static_cast<const unsigned char*>(in), static_cast<int>(bytes)) == 1 &&
      cipher().final(context_.get(), out + done, &rest) == 1 &&
      cipher().control(context_.get(), kGetTag, static_cast<int>(kTagBytes), out + bytes) == 1;
  if (!is_done || static_cast<std::size_t>(done + rest) != bytes) fail("a message could not be encrypted");
}

bool Seal::open(std::uint8_t* data, std::size_t bytes, const std::uint8_t* tag) {
  begin();
  int done = 0, rest = 0;
  std::uint8_t expected[kTagBytes];
  std::memcpy(expected, tag, kTagBytes);
  return cipher().update(context_.get(), data, &done, data, static_cast<int>(bytes)) == 1 &&
         cipher().control(context_.get(), kSetTag, static_cast<int>(kTagBytes), expected) == 1 &&
         cipher().final(context_.get(), data + done, &rest) == 1 && static_cast<std::size_t>(done + rest) == bytes;
}

}  // namespace raylite
