#include "lines.h"

namespace warp {

namespace {

constexpr uint8_t kCr = '\r';
constexpr uint8_t kLf = '\n';
constexpr uint8_t kDot = '.';

constexpr size_t kBlock = 64;

// Without branches, so that the compiler makes vector instructions of the loop below.
inline uint8_t IsUnusual(uint8_t before, uint8_t octet, uint8_t after) {
  return ((octet == kCr) & (after != kLf)) | ((octet == kLf) & (before != kCr)) | ((octet == kDot) & (before == kLf));
}

// Looks at one octet before the block and one behind it too.
inline bool HasUnusual(const uint8_t* block) {
  uint8_t found = 0;
  for (size_t k = 0; k < kBlock; k++) found |= IsUnusual(block[k - 1], block[k], block[k + 1]);
  return found != 0;
}

}  // namespace

size_t NextUnusualNewline(const uint8_t* octets, size_t length, size_t from) {
  if (from >= length) return length;
  if (octets[from] == kLf) return from;
  const size_t last = length - 1;
  if (octets[from] == kCr && (from == last || octets[from + 1] != kLf)) return from;
  size_t i = from + 1;
  while (i + kBlock <= last && !HasUnusual(octets + i)) i += kBlock;
  for (; i < last; i++) {
    // A dot's line end begins two octets before it: an LF without CR would have been found itself.
    if (IsUnusual(octets[i - 1], octets[i], octets[i + 1])) return octets[i] == kDot ? i - 2 : i;
  }
  if (last == from) return length;
  if (octets[last] == kCr) return last;
  if (octets[last] == kLf) return octets[last - 1] == kCr ? last - 1 : last;
  if (octets[last] == kDot && octets[last - 1] == kLf) return last - 2;
  return length;
}

}  // namespace warp
