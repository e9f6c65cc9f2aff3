#pragma once
#include <stdint.h>
#include <string.h>

/// The tile registers of tiles_amx.hpp in plain code, after the operation sections of Intel's
/// instruction set reference, so that what is built on them is tested on machines without AMX.
namespace troupe::gpu::cpu {
namespace {

struct emulated_tiles {
  struct shape {
    int rows[8] = {};
    int row_bytes[8] = {};
    void set(int tile, int64_t tile_rows, int64_t bytes) {
      rows[tile] = static_cast<int>(tile_rows);
      row_bytes[tile] = static_cast<int>(bytes);
    }
  };

  void configure(const shape& shapes) {
    shape_ = shapes;
    memset(bytes_, 0, sizeof bytes_);
  }
  void release() { shape_ = {}; }

  template <int Tile>
  void zero() {
    memset(bytes_[Tile], 0, sizeof bytes_[Tile]);
  }
  template <int Tile>
  void load(const void* from, int64_t stride) {
    zero<Tile>();
    for (int r = 0; r < shape_.rows[Tile]; ++r)
      memcpy(bytes_[Tile][r], static_cast<const char*>(from) + r * stride, bytes(Tile));
  }
  template <int Tile>
  void store(void* to, int64_t stride) {
    for (int r = 0; r < shape_.rows[Tile]; ++r)
      memcpy(static_cast<char*>(to) + r * stride, bytes_[Tile][r], bytes(Tile));
  }

  template <int Sums, int A, int B>
  void add_pairs() {
    check(Sums, A, B);
    for (int m = 0; m < shape_.rows[A]; ++m)
      for (int n = 0; n < shape_.row_bytes[B] / 4; ++n) {
        float sum = 0; // added up apart, and only then to what was there
        for (int k = 0; k < shape_.row_bytes[A] / 4; ++k)
          for (int i = 0; i < 2; ++i)
            sum += bf16(bytes_[A][m] + k * 4 + i * 2) * bf16(bytes_[B][k] + n * 4 + i * 2);
        float was;
        memcpy(&was, bytes_[Sums][m] + n * 4, 4);
        was += sum;
        memcpy(bytes_[Sums][m] + n * 4, &was, 4);
      }
  }
  template <int Sums, int A, int B>
  void add_bytes() {
    check(Sums, A, B);
    for (int m = 0; m < shape_.rows[A]; ++m)
      for (int n = 0; n < shape_.row_bytes[B] / 4; ++n) {
        int32_t sum;
        memcpy(&sum, bytes_[Sums][m] + n * 4, 4);
        for (int k = 0; k < shape_.row_bytes[A] / 4; ++k)
          for (int i = 0; i < 4; ++i)
            sum += static_cast<int8_t>(bytes_[A][m][k * 4 + i]) * bytes_[B][k][n * 4 + i];
        memcpy(bytes_[Sums][m] + n * 4, &sum, 4);
      }
  }

private:
  size_t bytes(int tile) const { return static_cast<size_t>(shape_.row_bytes[tile]); }
  /// The hardware refuses shapes that do not fit each other.
  void check(int sums, int a, int b) const {
    if (shape_.rows[sums] != shape_.rows[a] || shape_.rows[b] * 4 != shape_.row_bytes[a] ||
        shape_.row_bytes[sums] != shape_.row_bytes[b] || shape_.rows[a] == 0)
      __builtin_trap();
  }
  static float bf16(const unsigned char* at) {
    uint16_t half;
    memcpy(&half, at, 2);
    const uint32_t bits = uint32_t{half} << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
  }

  shape shape_;
  unsigned char bytes_[8][16][64] = {};
};

} // namespace
} // namespace troupe::gpu::cpu
