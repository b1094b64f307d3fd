// A GPU's work captured once as a CUDA graph and launched again as a whole. Where CUDA's headers were missing, or
// CUDA is not loaded, there is no such thing, and rankle_graph_new says so.

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <optional>
#include <stdexcept>

#include "guarded.h"

#ifdef RANKLE_CUDA
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>

#include "of_cuda.h"
#endif

namespace {

#ifdef RANKLE_CUDA
using at::cuda::CUDAGraph;

// Shows what CUDAGraph keeps for its heirs. There is never one.
struct Open : CUDAGraph {
  using CUDAGraph::capture_dev_;
  using CUDAGraph::capture_ended_;
  using CUDAGraph::captured_generator_states_;
  using CUDAGraph::mempool_id_;
};

class Graph {
 public:
  ~Graph() {
    destroy_(graph_);
    ::operator delete(graph_);
  }

  // On the current stream, which is not the default one.
  void begin() {
    // What the warm-up left free goes back: the graph takes memory of its own.
    c10::getDeviceAllocator(c10::kCUDA)->emptyCache();
    try {
      // Other threads may go on to take page-locked memory, which a global capture forbids.
      begin_(graph_, {0, 0}, cudaStreamCaptureModeThreadLocal);
    } catch (...) {
      abandon();
      throw;
    }
  }

  void end() {
    try {
      end_(graph_);
    } catch (...) {
      abandon();
      throw;
    }
  }

  void replay() { replay_(graph_); }

 private:
  OfCuda<decltype(&CUDAGraph::capture_begin)> begin_{
      "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode"};
  OfCuda<decltype(&CUDAGraph::capture_end)> end_{"_ZN2at4cuda9CUDAGraph11capture_endEv"};
  OfCuda<decltype(&CUDAGraph::replay)> replay_{"_ZN2at4cuda9CUDAGraph6replayEv"};
  OfCuda<void (CUDAGraph::*)()> destroy_{"_ZN2at4cuda9CUDAGraphD1Ev"};
  CUDAGraph* graph_ = new_of_cuda<CUDAGraph>("_ZN2at4cuda9CUDAGraphC1Eb", /*keep_graph=*/false);

  // capture_end and capture_begin stop where they fail: here is the rest of what they would have done.
  void abandon() {
    const auto quietly = [](auto work) {
      try {
        work();
      } catch (...) {
      }
    };
    using c10::cuda::CUDACachingAllocator::CUDAAllocator;
    auto* memory = static_cast<CUDAAllocator*>(c10::getDeviceAllocator(c10::kCUDA));
    auto* pinned = at::getHostAllocator(at::kCUDA);
    const auto device = graph_->*&Open::capture_dev_;
    const auto pool = graph_->*&Open::mempool_id_;
    quietly([&] { memory->endAllocateToPool(device, pool); });
    quietly([&] { pinned->end_allocate_to_pool(pool); });
    if (!(graph_->*&Open::capture_ended_)) {
      quietly([&] { memory->releasePool(device, pool); });
      quietly([&] { pinned->release_pool(pool); });
    }
    for (auto& registered : graph_->*&Open::captured_generator_states_) registered.first->capturing_ = false;
    // The runtime remembers an error until it is asked. libcudart is there through libtorch alone.
    if (auto* ask = reinterpret_cast<cudaError_t (*)()>(dlsym(RTLD_DEFAULT, "cudaGetLastError"))) ask();
  }
};
#else
struct Graph {
  Graph() { throw std::runtime_error("this rankle was built without CUDA's headers"); }
  void begin() {}
  void end() {}
  void replay() {}
};
#endif

struct Capture {
  explicit Capture(c10::Device device) : gpu(device.type()), side(gpu.getStreamFromGlobalPool(device)) {}

  // First, since it knows best what is missing where CUDA is.
  Graph graph;
  c10::impl::VirtualGuardImpl gpu;
  c10::Stream side;
  // There while `side` is the current stream.
  std::optional<c10::StreamGuard> inside;

  void wait(const c10::Stream& later, const c10::Stream& earlier) {
    c10::Event done(gpu.type());
    done.record(earlier);
    done.block(later);
  }

  // Warm-up and capture share a stream: autograd remembers the one on which a parameter was first used.
  void enter(bool captured) {
    wait(side, gpu.getStream(side.device()));
    inside.emplace(side);
    try {
      if (captured) graph.begin();
    } catch (...) {
      inside.reset();
      throw;
    }
  }

  void leave(bool captured) {
    std::exception_ptr failed;
    try {
      if (captured) graph.end();
    } catch (...) {
      failed = std::current_exception();
    }
    inside.reset();
    wait(gpu.getStream(side.device()), side);
    if (failed) std::rethrow_exception(failed);
  }
};

}  // namespace

extern "C" {

int rankle_graph_new(int index, void** out, char* error, size_t length) {
  return guarded(error, length, [&] {
    *out = new Capture(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)));
  });
}

void rankle_graph_free(void* capture) { delete static_cast<Capture*>(capture); }

// Until rankle_graph_leave with the same `captured`, this thread's work goes to a stream beside the current one: to be
// done, or to be remembered for rankle_graph_replay and not done.
int rankle_graph_enter(void* capture, int captured, char* error, size_t length) {
  return guarded(error, length, [&] { static_cast<Capture*>(capture)->enter(captured != 0); });
}

int rankle_graph_leave(void* capture, int captured, char* error, size_t length) {
  return guarded(error, length, [&] { static_cast<Capture*>(capture)->leave(captured != 0); });
}

// On the current stream.
int rankle_graph_replay(void* capture, char* error, size_t length) {
  return guarded(error, length, [&] { static_cast<Capture*>(capture)->graph.replay(); });
}
}
