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
constexpr int kGroup = 4;         // rows of x at once, so that W is widened once for all of them
constexpr int kDeep = 8;          // rows of W at once, so that the sums are fetched once for all of them
constexpr int64_t kPanel = 1024;  // columns of a panel at most: W comes in long runs, the sums stay close by

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

// Adds kDeep rows of W, from row i on, to the sums of kRows rows of y over the pairs of a panel.
template <int kRows, int kDepth>
void Add(const Product& p, int64_t row, int64_t i, int64_t begin, int64_t pairs, Floats* sums) {
  const float* x = p.x + row * p.inner + i;
  const uint16_t* w = p.w + i * p.columns + begin;
  for (int64_t v = 0; v < pairs; ++v) {
    Floats even[kRows], odd[kRows];
    for (int r = 0; r < kRows; ++r) {
      even[r] = sums[(v * kRows + r) * 2];
      odd[r] = sums[(v * kRows + r) * 2 + 1];
    }
    for (int d = 0; d < kDepth; ++d) {
      Words words;
      std::memcpy(&words, w + d * p.columns + v * kPair, sizeof words);
      __builtin_prefetch(w + (d + kDepth) * p.columns + v * kPair);  // else each run would begin slowly
      const Floats low = (Floats)(words << 16), high = (Floats)(words & 0xffff0000);
      for (int r = 0; r < kRows; ++r) {
        even[r] += x[r * p.inner + d] * low;
        odd[r] += x[r * p.inner + d] * high;
      }
    }
    for (int r = 0; r < kRows; ++r) {
      sums[(v * kRows + r) * 2] = even[r];
      sums[(v * kRows + r) * 2 + 1] = odd[r];
    }
  }
}

// A row of y over the few columns that fill no pair of vectors.
void Rest(const Product& p, int64_t row, int64_t begin, int64_t end) {
  float sums[kPair] = {};
  for (int64_t i = 0; i < p.inner && begin < end; ++i) {
    for (int64_t c = begin; c < end; ++c) {
      const uint32_t word = uint32_t{p.w[i * p.columns + c]} << 16;
      float wide;
      std::memcpy(&wide, &word, sizeof wide);
      sums[c - begin] += p.x[row * p.inner + i] * wide;
    }
  }
  std::copy(sums, sums + (end - begin), p.y + row * p.columns + begin);
}

// kRows rows of y from column `begin` to `end`.
template <int kRows>
void Panel(const Product& p, int64_t row, int64_t begin, int64_t end) {
  const int64_t pairs = (end - begin) / kPair;
  Floats sums[kPanel / kPair * kRows * 2] = {};
  int64_t i = 0;
  for (; i + kDeep <= p.inner; i += kDeep) Add<kRows, kDeep>(p, row, i, begin, pairs, sums);
  for (; i < p.inner; ++i) Add<kRows, 1>(p, row, i, begin, pairs, sums);
  for (int r = 0; r < kRows; ++r) {
    float* y = p.y + (row + r) * p.columns + begin;
    for (int64_t c = 0; c < pairs * kPair; c += 2) {
      const Floats* pair = sums + (c / kPair * kRows + r) * 2;
      y[c] = pair[0][c % kPair / 2];
      y[c + 1] = pair[1][c % kPair / 2];
    }
    Rest(p, row + r, begin + pairs * kPair, end);
  }
}

// How many parts of that size it takes.
int64_t Parts(int64_t whole, int64_t size) { return (whole + size - 1) / size; }

// A product cut into panels of columns, which threads take one after another.
class Work {
 public:
  Work(const Product& product, int64_t threads) : p_(product) {
    const int64_t share = std::max<int64_t>(1, Parts(p_.columns, std::max<int64_t>(1, threads)));  // of a thread
    width_ = Parts(Parts(share, Parts(share, kPanel)), kPair) * kPair;
    panels_ = Parts(p_.columns, width_);
  }

  int64_t panels() const { return panels_; }

  void Run() {
    for (int64_t panel; (panel = taken_++) < panels_; ++done_) {
      const int64_t begin = panel * width_, end = std::min(begin + width_, p_.columns);
      if (p_.rows < kGroup) {
        for (int64_t row = 0; row < p_.rows; ++row) Panel<1>(p_, row, begin, end);
      } else {
        for (int64_t row = 0; row < p_.rows; row += kGroup) {  // the last group may overlap the one before
          Panel<kGroup>(p_, std::min(row, p_.rows - kGroup), begin, end);
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
  int64_t width_, panels_;
  std::atomic<int64_t> taken_{0}, done_{0};
};

ffi::Error Multiply(ffi::ThreadPool pool, ffi::BufferR2<ffi::F32> x, ffi::BufferR2<ffi::BF16> w,
                    ffi::ResultBufferR2<ffi::F32> y) {
  const Product product{x.typed_data(), static_cast<const uint16_t*>(w.untyped_data()), y->typed_data(),
                        x.dimensions()[0], x.dimensions()[1], w.dimensions()[1]};
  // Shared, since a helper may come when all is done and the caller gone: it then finds no panel to take.
  const auto work = std::make_shared<Work>(product, pool.num_threads());
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
