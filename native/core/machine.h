// How processes find out that they are on one machine.
#pragma once
#include <fstream>
#include <string>

namespace raylite {

/// Two processes that see the same one have the same kernel, whatever their containers call it.
inline std::string machine_name() {
  std::string name;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), name);
  return name;
}

}  // namespace raylite
