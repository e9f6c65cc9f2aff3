#pragma once
#include "gpu/cpu/kernels.hpp"

/// Weights in blocks as they lie in panels (gpu/cpu/panels.hpp says how), over the primitives of
/// the simd/vec_*.hpp that was included before.
namespace troupe::gpu::cpu {
namespace {

// Values of 32 elements. `each_group<Parts, Part>` calls dot(weights of column vectors, group of x)
// for the groups of part `Part`: all eight, or four where a block has two parts.

struct eight_bits {
  static constexpr int64_t value_bytes = 512; ///< of 32 elements in a panel
  static constexpr bool small = false;
  static constexpr bool packed = false; ///< several values in a byte
  template <int Parts, int Part, int Vectors, class Dot>
  [[gnu::always_inline]] static void each_group(const unsigned char* const* values,
                                                const Dot& dot) {
#pragma GCC unroll 8
    for (int group = 0; group < 8; ++group) {
      ivec weights[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        weights[v] = load_groups(values[v] + group * 64);
      dot(weights, group);
    }
  }
};

struct four_bits {
  static constexpr int64_t value_bytes = 256;
  static constexpr bool small = true;
  static constexpr bool packed = true;
  template <int Parts, int Part, int Vectors, class Dot>
  [[gnu::always_inline]] static void each_group(const unsigned char* const* values,
                                                const Dot& dot) {
#pragma GCC unroll 8
    for (int group = 0; group < 4; ++group) {
      ivec low[Vectors], high[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        const ivec both = load_groups(values[v] + group * 64);
        low[v] = low_nibbles(both);
        high[v] = high_nibbles(both);
      }
      dot(low, group);
      dot(high, group + 4);
    }
  }
};

/// `levels` with those bits of `upper` that `Mask` names in every byte, moved up by `Up` before.
template <int Up, int Mask>
inline ivec with_upper(ivec levels, ivec upper) {
  if constexpr (Up > 0)
    return or_masked<Mask>(levels, shift_left<Up>(upper));
  else if constexpr (Up < 0)
    return or_masked<Mask>(levels, shift_right<-Up>(upper));
  else
    return or_masked<Mask>(levels, upper);
}

struct five_bits {
  static constexpr int64_t value_bytes = 320;
  static constexpr bool small = true;
  static constexpr bool packed = true;
  template <int Parts, int Part, int Vectors, class Dot>
  [[gnu::always_inline]] static void each_group(const unsigned char* const* values,
                                                const Dot& dot) {
    two_groups<0, Vectors>(values, dot);
    two_groups<1, Vectors>(values, dot);
    two_groups<2, Vectors>(values, dot);
    two_groups<3, Vectors>(values, dot);
  }

private:
  template <int Group, int Vectors, class Dot>
  [[gnu::always_inline]] static void two_groups(const unsigned char* const* values,
                                                const Dot& dot) {
    ivec low[Vectors], high[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      const ivec fifths = load_groups(values[v]), both = load_groups(values[v] + 64 + Group * 64);
      low[v] = with_upper<4 - Group, 16>(low_nibbles(both), fifths);
      high[v] = with_upper<-Group, 16>(high_nibbles(both), fifths);
    }
    dot(low, Group);
    dot(high, Group + 4);
  }
};

struct six_bits {
  static constexpr int64_t value_bytes = 384;
  static constexpr bool small = true;
  static constexpr bool packed = true;
  template <int Parts, int Part, int Vectors, class Dot>
  [[gnu::always_inline]] static void each_group(const unsigned char* const* values,
                                                const Dot& dot) {
    static_assert(Parts == 2);
    two_groups<Part, 0, Vectors>(values, dot);
    two_groups<Part, 1, Vectors>(values, dot);
  }

private:
  template <int Part, int Pair, int Vectors, class Dot>
  [[gnu::always_inline]] static void two_groups(const unsigned char* const* values,
                                                const Dot& dot) {
    ivec low[Vectors], high[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      const ivec upper = load_groups(values[v] + Part * 64);
      const ivec both = load_groups(values[v] + 128 + (2 * Part + Pair) * 64);
      low[v] = with_upper<4 - 4 * Pair, 48>(low_nibbles(both), upper);
      high[v] = with_upper<2 - 4 * Pair, 48>(high_nibbles(both), upper);
    }
    dot(low, 4 * Part + 2 * Pair);
    dot(high, 4 * Part + 2 * Pair + 1);
  }
};

// Heads. `scale` and `minimum` are those of a block's part for the columns that begin `col` columns
// into the panel; `parts` = parts of a block with a scale of their own; `in_units` = those are
// numbers of few bits, which take some work.

/// An f16 scale; the values have something added.
struct one_scale {
  static constexpr int parts = 1;
  static constexpr bool in_units = false;
  static constexpr bool has_minimum = false;
  static int64_t bytes(int64_t blocks) { return blocks * 32; }
  template <int Part>
  static vec scale(const unsigned char* heads, int64_t block, int col) {
    return load_f16(heads + block * 32 + col * 2);
  }
  static vec minimum(const unsigned char*, int64_t, int) { return zero(); }
};

/// An f16 scale and an f16 minimum.
struct scale_and_minimum {
  static constexpr int parts = 1;
  static constexpr bool in_units = false;
  static constexpr bool has_minimum = true;
  static int64_t bytes(int64_t blocks) { return blocks * 64; }
  template <int Part>
  static vec scale(const unsigned char* heads, int64_t block, int col) {
    return load_f16(heads + block * 64 + col * 2);
  }
  static vec minimum(const unsigned char* heads, int64_t block, int col) {
    return load_f16(heads + block * 64 + 32 + col * 2);
  }
};

/// Scales and minimums of 6 bits, in units of two f16.
struct packed_scales_of_k {
  static constexpr int parts = 1;
  static constexpr bool in_units = true;
  static constexpr bool has_minimum = true;
  static int64_t bytes(int64_t blocks) { return blocks * 32; }
  template <int Part>
  static vec scale(const unsigned char* heads, int64_t block, int col) {
    const unsigned char* head = heads + block / 8 * 256;
    const ivec low = low_nibbles(low_bits(head, block, col));
    return mul(load_f16(head + col * 2),
               to_float(or_masked<48>(low, shift_left<4>(upper_bits(head, block, col)))));
  }
  static vec minimum(const unsigned char* heads, int64_t block, int col) {
    const unsigned char* head = heads + block / 8 * 256;
    const ivec low = high_nibbles(low_bits(head, block, col));
    return mul(sub(zero(), load_f16(head + 32 + col * 2)),
               to_float(or_masked<48>(low, shift_left<2>(upper_bits(head, block, col)))));
  }

private:
  static ivec low_bits(const unsigned char* head, int64_t block, int col) {
    return load_bytes(head + 64 + block % 8 * 16 + col);
  }
  static ivec upper_bits(const unsigned char* head, int64_t block, int col) {
    const ivec both = load_bytes(head + 192 + block % 8 / 2 * 16 + col);
    return shift_right_by(both, static_cast<int>(block % 2 * 4));
  }
};

/// Scales of 8 bits for sixteen elements each, in units of an f16.
struct two_scales_of_k {
  static constexpr int parts = 2;
  static constexpr bool in_units = true;
  static constexpr bool has_minimum = false;
  static int64_t bytes(int64_t blocks) { return blocks * 36; }
  template <int Part>
  static vec scale(const unsigned char* heads, int64_t block, int col) {
    const unsigned char* head = heads + block / 8 * 288;
    return mul(load_f16(head + col * 2), load_i8(head + 32 + (block % 8 * 2 + Part) * 16 + col));
  }
  static vec minimum(const unsigned char*, int64_t, int) { return zero(); }
};

// A panel's blocks as they are unpacked for many rows: the scales of a block's parts, its minimum
// where it has one (each a vector of floats), and its 32 elements in bytes.

template <int Parts, bool HasMinimum>
struct unpacked_heads {
  static constexpr int parts = Parts;
  static constexpr bool in_units = false;
  static constexpr bool has_minimum = HasMinimum;
  static constexpr int64_t head_bytes = (Parts + (HasMinimum ? 1 : 0)) * 64;
  static constexpr int64_t block_bytes = head_bytes + eight_bits::value_bytes;
  static int64_t bytes(int64_t) { return head_bytes; } // where the first values are
  template <int Part>
  static vec scale(const unsigned char* heads, int64_t block, int) {
    return load_f32(heads + block * block_bytes + Part * 64);
  }
  static vec minimum(const unsigned char* heads, int64_t block, int) {
    return load_f32(heads + block * block_bytes + Parts * 64);
  }
};

/// With `Heads` between the values of one block and the next.
template <class Heads>
struct unpacked_bytes {
  static constexpr int64_t value_bytes = Heads::block_bytes;
  static constexpr bool small = true;
  static constexpr bool packed = false;
  template <int Parts, int Part, int Vectors, class Dot>
  [[gnu::always_inline]] static void each_group(const unsigned char* const* values,
                                                const Dot& dot) {
#pragma GCC unroll 8
    for (int group = Part * 8 / Parts; group < (Part + 1) * 8 / Parts; ++group) {
      ivec weights[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        weights[v] = load_groups(values[v] + group * 64);
      dot(weights, group);
    }
  }
};

} // namespace
} // namespace troupe::gpu::cpu
