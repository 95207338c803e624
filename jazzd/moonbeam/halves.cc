// y = x W, W in bfloat16, x and y in float32. A product of a few rows costs what reading W costs, and this is
// half of what W would be in float32. Nothing is rounded: a bfloat16 is the upper half of a float32. Each
// number of y is one sum in the order of W's rows however the work is cut, so a row comes out alike alone and
// among others. Compiled by halves.py on the machine that it runs on.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;  // a register of AVX2, two of NEON
#endif
constexpr int kGroup = 4;             // rows of x at once, so that W is widened once for all of them
constexpr int kAlone = 4;             // pairs of a tile of one row: sums that fit the registers
constexpr int kGrouped = kLanes / 8;  // and of a group: AVX-512 has more registers
constexpr int kAhead = 8192;          // bytes of W that are asked for before they are needed

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));

// Neighbours in W share a word, so columns are summed in pairs of vectors: the even ones and the odd ones.
constexpr int kPair = 2 * kLanes;

struct Product {
  const float* x;
  const uint16_t* w;
  float* y;
  int64_t rows, inner, columns;
};

// Some rows and pairs of vectors of y.
template <int kRows, int kPairs>
void Tile(const Product& p, int64_t row, int64_t column) {
  constexpr int kWidth = kPairs * kPair;
  Floats even[kRows][kPairs] = {}, odd[kRows][kPairs] = {};
  const float* x = p.x + row * p.inner;
  for (int64_t i = 0; i < p.inner; ++i) {
    const uint16_t* w = p.w + i * p.columns + column;
    for (int c = 0; c < kWidth; c += 32) __builtin_prefetch(w + kAhead / 2 / kWidth * p.columns + c);
    for (int v = 0; v < kPairs; ++v) {
      Words words;
      std::memcpy(&words, w + v * kPair, sizeof words);
      const Floats low = (Floats)(words << 16), high = (Floats)(words & 0xffff0000);
      for (int r = 0; r < kRows; ++r) {
        even[r][v] += x[r * p.inner + i] * low;
        odd[r][v] += x[r * p.inner + i] * high;
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* y = p.y + (row + r) * p.columns + column;
    for (int c = 0; c < kWidth; c += 2) {
      y[c] = even[r][c / kPair][c % kPair / 2];
      y[c + 1] = odd[r][c / kPair][c % kPair / 2];
    }
  }
}

// Rows of y from column `begin` to `end`, in tiles that narrow where the end comes.
template <int kRows, int kPairs>
void Strip(const Product& p, int64_t row, int64_t begin, int64_t end) {
  if constexpr (kPairs > 0) {
    for (; begin + kPairs * kPair <= end; begin += kPairs * kPair) Tile<kRows, kPairs>(p, row, begin);
    Strip<kRows, kPairs / 2>(p, row, begin, end);
  } else {
    for (int64_t r = row; r < row + kRows; ++r) {
      float sums[kPair] = {};
      for (int64_t i = 0; i < p.inner; ++i) {
        for (int64_t c = begin; c < end; ++c) {
          const uint32_t word = uint32_t{p.w[i * p.columns + c]} << 16;
          float wide;
          std::memcpy(&wide, &word, sizeof wide);
          sums[c - begin] += p.x[r * p.inner + i] * wide;
        }
      }
      std::copy(sums, sums + (end - begin), p.y + r * p.columns + begin);
    }
  }
}

// A product cut into panels of columns, which threads take one after another.
class Work {
 public:
  explicit Work(const Product& product)
      : p_(product),
        width_((p_.rows < kGroup ? kAlone : kGrouped) * kPair),
        panels_((p_.columns + width_ - 1) / width_) {}

  int64_t panels() const { return panels_; }

  void Run() {
    for (int64_t panel; (panel = taken_++) < panels_; ++done_) {
      const int64_t begin = panel * width_, end = std::min(begin + width_, p_.columns);
      if (p_.rows < kGroup) {
        for (int64_t row = 0; row < p_.rows; ++row) Strip<1, kAlone>(p_, row, begin, end);
      } else {
        for (int64_t row = 0; row < p_.rows; row += kGroup) {  // the last group may overlap the one before
          Strip<kGroup, kGrouped>(p_, std::min(row, p_.rows - kGroup), begin, end);
        }
      }
    }
  }

  // Waits for panels that a thread is busy with, never for a task that nobody has begun: no deadlock.
  void Finish() const {
    while (done_ < panels_) std::this_thread::yield();
  }

 private:
  const Product p_;
  const int64_t width_, panels_;
  std::atomic<int64_t> taken_{0}, done_{0};
};

ffi::Error Multiply(ffi::ThreadPool pool, ffi::BufferR2<ffi::F32> x, ffi::BufferR2<ffi::BF16> w,
                    ffi::ResultBufferR2<ffi::F32> y) {
  const Product product{x.typed_data(), static_cast<const uint16_t*>(w.untyped_data()), y->typed_data(),
                        x.dimensions()[0], x.dimensions()[1], w.dimensions()[1]};
  // Shared, since a helper may come when all is done and the caller gone: it then finds no panel to take.
  const auto work = std::make_shared<Work>(product);
  for (int64_t threads = std::min(pool.num_threads(), work->panels()); threads > 1; --threads) {
    pool.Schedule([work] { work->Run(); });
  }
  work->Run();
  work->Finish();
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(JazzdHalves, Multiply,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR2<ffi::F32>>()
                                  .Arg<ffi::BufferR2<ffi::BF16>>()
                                  .Ret<ffi::BufferR2<ffi::F32>>());
