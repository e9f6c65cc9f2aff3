#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "base/half.hpp"
#include "cuda_runtime.h"
#include "emulated_stream.hpp"

/// Keeps what a function must keep, stores the stack's top at `*from`, goes on at `to`. Unlike
/// swapcontext it makes no system call, which is most of what an emulated barrier would cost.
extern "C" void troupe_switch_stack(void** from, void* to);
asm(R"(
.pushsection .text
.type troupe_switch_stack, @function
troupe_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size troupe_switch_stack, .-troupe_switch_stack
.popsection
)");

namespace troupe::cuda_emulation {
namespace {

constexpr size_t stack_bytes = 128 << 10;

/// Passed when all its members have arrived; members that return leave it.
struct barrier {
  unsigned members = 0;
  unsigned arrived = 0;
  unsigned passed = 0;

  void arrive() {
    if (++arrived == members)
      open();
  }
  void leave() {
    if (--members == arrived && arrived > 0)
      open();
  }
  void open() {
    arrived = 0;
    ++passed;
  }
};

struct fiber {
  void* top = nullptr; ///< of the stack, while it does not run
  std::unique_ptr<char[]> stack;
  uint3 index;
  bool done = false;
  const barrier* at = nullptr; ///< where it waits
  unsigned ticket = 0;         ///< for `passed` of that barrier to differ from

  bool blocked() const { return at != nullptr && at->passed == ticket; }
};

struct warp {
  barrier gate;
  /// Two sets in turn: no lane can be two collectives ahead of another.
  uint32_t words[2][32][8];
};

/// One block's threads.
class block_of_fibers {
public:
  void run(dim3 size, const std::function<void()>& thread) {
    const unsigned count = size.x * size.y * size.z;
    thread_ = &thread;
    while (fibers_.size() < count)
      fibers_.push_back(std::make_unique<fiber>());
    block_ = {count};
    warps_.resize((count + 31) / 32);
    for (auto& one : warps_)
      one.gate = {};
    order_.clear();
    for (unsigned i = 0; i < count; ++i) {
      start(*fibers_[i], {i % size.x, i / size.x % size.y, i / size.x / size.y});
      ++warps_[i / 32].gate.members;
      order_.push_back(i);
    }
    drive();
  }
  void wait(barrier& gate) {
    fiber& self = *fibers_[current_];
    self.at = &gate;
    self.ticket = gate.passed;
    gate.arrive();
    if (self.blocked())
      troupe_switch_stack(&self.top, scheduler_);
    self.at = nullptr;
  }
  barrier& block() { return block_; }
  warp& own_warp() { return warps_[current_ / 32]; }
  std::minstd_rand& random() { return random_; }

private:
  static void enter();

  void start(fiber& one, uint3 index) {
    if (!one.stack)
      one.stack = std::make_unique_for_overwrite<char[]>(stack_bytes);
    one.index = index;
    one.done = false;
    one.at = nullptr;
    // What the first switch pops: six registers, then where to go on; a call leaves the stack's
    // top eight bytes off a multiple of sixteen.
    auto end = reinterpret_cast<uintptr_t>(one.stack.get() + stack_bytes) / 16 * 16 - 8;
    auto** top = reinterpret_cast<void**>(end) - 7;
    std::fill(top, top + 6, nullptr);
    top[6] = reinterpret_cast<void*>(&block_of_fibers::enter);
    one.top = top;
  }

  /// Lets every runnable fiber go on until all are done. Each pass swaps two of them, so that the
  /// order they go on in changes all the time.
  void drive() {
    while (!order_.empty()) {
      bool moved = false;
      std::swap(order_[random_() % order_.size()], order_[random_() % order_.size()]);
      for (const unsigned i : order_) {
        fiber& one = *fibers_[i];
        if (one.done || one.blocked())
          continue;
        moved = true;
        current_ = i;
        threadIdx = one.index;
        troupe_switch_stack(&scheduler_, one.top);
      }
      std::erase_if(order_, [&](unsigned i) { return fibers_[i]->done; });
      if (!moved && !order_.empty()) {
        std::fprintf(stderr, "emulated CUDA: a barrier is never passed in block %u, %u, %u\n",
                     blockIdx.x, blockIdx.y, blockIdx.z);
        std::abort();
      }
    }
  }

  [[noreturn]] void finish() {
    fibers_[current_]->done = true;
    block_.leave();
    own_warp().gate.leave();
    troupe_switch_stack(&fibers_[current_]->top, scheduler_);
    std::abort(); // nobody goes on here
  }

  std::vector<std::unique_ptr<fiber>> fibers_;
  std::vector<warp> warps_;
  std::vector<unsigned> order_;
  barrier block_;
  void* scheduler_ = nullptr;
  unsigned current_ = 0;
  const std::function<void()>* thread_ = nullptr;
  std::minstd_rand random_;
};

block_of_fibers fibers;
std::mutex pending_mutex; // copies come from several threads
cudaError_t pending = cudaSuccess;
bool pending_stays = false;
size_t grids = 0;

void block_of_fibers::enter() {
  (*fibers.thread_)();
  fibers.finish();
}

} // namespace

void run_grid(dim3 grid, dim3 block, const std::function<void()>& thread) {
  ++grids;
  gridDim = grid;
  blockDim = block;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        fibers.run(block, thread);
      }
}

size_t grids_run() { return grids; }
void sync_block() { fibers.wait(fibers.block()); }
void sync_warp() { fibers.wait(fibers.own_warp().gate); }
uint32_t* warp_words(unsigned lane) {
  auto& own = fibers.own_warp();
  return own.words[own.gate.passed % 2][lane];
}

const uint32_t (*sync_collective())[8] {
  auto& own = fibers.own_warp();
  const auto* words = own.words[own.gate.passed % 2];
  sync_warp();
  return words;
}

void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
              uint32_t b1) {
  const uint32_t own[] = {a0, a1, a2, a3, b0, b1};
  std::memcpy(warp_words(lane()), own, sizeof own);
  const auto* words = sync_collective();
  const auto half = [](uint32_t word, unsigned k) {
    return double{bf16_to_float(static_cast<uint16_t>(word >> k % 2 * 16))};
  };
  // k = 0..7 lies in the first registers of lanes 0..3 of a group, k = 8..15 in the others.
  const auto a = [&](unsigned row, unsigned k) {
    return half(words[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k);
  };
  const auto b = [&](unsigned k, unsigned col) {
    return half(words[col * 4 + k % 8 / 2][4 + k / 8], k);
  };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane() / 4 + i / 2 * 8, col = lane() % 4 * 2 + i % 2;
    double sum = double{c[i]};
    for (unsigned k = 0; k < 16; ++k)
      sum += a(row, k) * b(k, col);
    c[i] = static_cast<float>(sum);
  }
}

void seed_schedule(uint64_t seed) {
  fibers.random().seed(static_cast<std::minstd_rand::result_type>(seed));
}
void fail_next(cudaError_t error, bool sticky) {
  const std::lock_guard guard{pending_mutex};
  pending = error;
  pending_stays = sticky;
}
bool is_failure_pending() {
  const std::lock_guard guard{pending_mutex};
  return pending != cudaSuccess;
}
cudaError_t take_failure() {
  const std::lock_guard guard{pending_mutex};
  const auto out = pending;
  if (!pending_stays)
    pending = cudaSuccess;
  return out;
}

} // namespace troupe::cuda_emulation

namespace troupe::cuda_emulation {
namespace {

graph_counts counted;
std::atomic<uint64_t> allocated_bytes{0}, registered_bytes{0}, pageable_bytes{0};
graph_call refused = graph_call::none;

cudaError_t failure_of(graph_call call) {
  return call == refused ? cudaErrorStreamCaptureUnsupported : take_failure();
}

/// For calls that no recording can hold: they spoil it.
bool spoils(cudaStream_t stream) {
  if (!is_capturing(stream))
    return false;
  stream->is_invalid = true;
  return true;
}

} // namespace

bool is_capturing(cudaStream_t stream) { return stream != nullptr && stream->recorded != nullptr; }
void capture(cudaStream_t stream, std::function<void()> step, const launch_shape& of) {
  stream->recorded->steps.push_back({std::move(step), of});
}
graph_counts graphs() { return counted; }
void refuse(graph_call which) { refused = which; }
void settle(cudaStream_t stream) {
  if (stream != nullptr)
    settle(stream->copies);
}
copy_counts copies() { return {allocated_bytes, registered_bytes, pageable_bytes}; }

} // namespace troupe::cuda_emulation

using namespace troupe::cuda_emulation;

cudaError_t cudaMallocHost(void** out, size_t size) {
  const auto status = cudaMallocAsync(out, size, nullptr);
  if (status == cudaSuccess)
    pin(*out, size, host_memory::allocated);
  return status;
}
cudaError_t cudaFreeHost(void* data) {
  unpin(data);
  return cudaFreeAsync(data, nullptr);
}
cudaError_t cudaHostRegister(void* data, size_t size, unsigned) {
  if (const auto failed = take_failure(); failed != cudaSuccess)
    return failed;
  return pin(data, size, host_memory::registered) ? cudaSuccess
                                                  : cudaErrorHostMemoryAlreadyRegistered;
}
cudaError_t cudaHostUnregister(void* data) {
  return unpin(data) ? cudaSuccess : cudaErrorHostMemoryNotRegistered;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (const auto failed = take_failure(); failed != cudaSuccess)
    return failed;
  if (is_capturing(stream)) {
    capture(stream, [=] { std::memcpy(to, from, size); });
    return cudaSuccess;
  }
  const auto source = kind == cudaMemcpyHostToDevice ? kind_of(from, size) : host_memory::pageable;
  if (source == host_memory::several)
    return cudaErrorInvalidValue;
  if (kind == cudaMemcpyHostToDevice)
    (source == host_memory::allocated    ? allocated_bytes
     : source == host_memory::registered ? registered_bytes
                                         : pageable_bytes) += size;
  if (source != host_memory::pageable && stream != nullptr) {
    copy_later(*stream->copies, to, from, size);
    return cudaSuccess;
  }
  settle(stream);
  std::memcpy(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned) {
  *out = nullptr;
  if (const auto failed = take_failure(); failed != cudaSuccess)
    return failed;
  *out = new emulated_stream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  settle(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  settle(stream);
  return spoils(stream) ? cudaErrorStreamCaptureUnsupported : take_failure();
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (const auto failed = failure_of(graph_call::begin); failed != cudaSuccess)
    return failed;
  stream->recorded = std::make_unique<emulated_graph>();
  stream->is_invalid = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out) {
  *out = nullptr;
  const auto made = std::move(stream->recorded);
  if (const auto failed = failure_of(graph_call::end); failed != cudaSuccess)
    return failed;
  if (!made || stream->is_invalid)
    return cudaErrorStreamCaptureInvalidated;
  *out = new emulated_graph{made->steps};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
  if (const auto failed = failure_of(graph_call::instantiate); failed != cudaSuccess)
    return failed;
  *out = new emulated_graph_exec{graph->steps};
  ++counted.alive;
  ++counted.instantiated;
  return cudaSuccess;
}
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo*) {
  if (const auto failed = failure_of(graph_call::update); failed != cudaSuccess)
    return failed;
  if (!std::ranges::equal(exec->steps, graph->steps, &emulated_node::is_like)) {
    ++counted.not_updated;
    return cudaErrorGraphExecUpdateFailure;
  }
  exec->steps = graph->steps;
  ++counted.updated;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  --counted.alive;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  settle(stream);
  if (const auto failed = failure_of(graph_call::launch); failed != cudaSuccess)
    return failed;
  ++counted.launched;
  for (const auto& step : exec->steps)
    step.run();
  return cudaSuccess;
}
struct emulated_event {
  stream_mark place;
  std::shared_ptr<std::chrono::steady_clock::time_point> at; ///< when it was passed
};
cudaError_t cudaEventCreate(cudaEvent_t* out) {
  *out = new emulated_event{};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->at = std::make_shared<std::chrono::steady_clock::time_point>();
  call_later(*stream->copies, [at = event->at] { *at = std::chrono::steady_clock::now(); });
  event->place = mark(stream->copies);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const auto failed = take_failure(); failed != cudaSuccess)
    return failed;
  call_later(*stream->copies, [place = event->place] { settle(place); });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  settle(event->place);
  return take_failure();
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begun, cudaEvent_t ended) {
  *milliseconds = std::chrono::duration<float, std::milli>{*ended->at - *begun->at}.count();
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorEmulated";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "an emulated failure";
}
