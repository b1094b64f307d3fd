// A copy to a GPU on a stream of its own, and the switches of libtorch's that tch leaves out. Only the interfaces that
// all devices share are used, so that no CUDA header is needed.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

namespace {

// The stream for copies to a GPU: one a GPU for the whole process.
c10::Stream side_stream(const c10::impl::VirtualGuardImpl& gpu, c10::Device device) {
  static std::mutex lock;
  static std::map<int, c10::Stream> streams;
  const std::lock_guard<std::mutex> held(lock);
  auto found = streams.find(device.index());
  if (found == streams.end()) {
    found = streams.emplace(device.index(), gpu.getStreamFromGlobalPool(device)).first;
  }
  return found->second;
}

} // namespace

extern "C" {

// `tensor`, of the CPU, in page-locked memory: itself where it lies there already. No device is named: libtorch pins for the
// GPUs that there are, and warns at every call of whoever names one.
int rankle_pin(void* tensor, void** out) {
  try {
    *out = new at::Tensor(static_cast<at::Tensor*>(tensor)->pin_memory());
    return 0;
  } catch (...) {
    return 1;
  }
}

// `tensor`, of a GPU, on its way into page-locked memory, after what was queued before; there once `arrived` has happened.
int rankle_fetch(void* tensor, void** out, void** arrived) {
  try {
    const auto& there = *static_cast<at::Tensor*>(tensor);
    auto here = at::empty(there.sizes(), there.options().device(c10::kCPU).pinned_memory(true));
    here.copy_(there, /*non_blocking=*/true);
    auto event = std::make_unique<c10::Event>(c10::kCUDA);
    event->record(c10::impl::VirtualGuardImpl(c10::kCUDA).getStream(there.device()));
    *out = new at::Tensor(std::move(here));
    *arrived = event.release();
    return 0;
  } catch (...) {
    return 1;
  }
}

// Waits for one of rankle_fetch's and frees it.
int rankle_arrived(void* arrived) {
  try {
    std::unique_ptr<c10::Event>(static_cast<c10::Event*>(arrived))->synchronize();
    return 0;
  } catch (...) {
    return 1;
  }
}

// `tensor`, in page-locked memory, on GPU `index`. The current stream waits for the copy, the host doesn't.
int rankle_upload(void* tensor, int index, void** out) {
  try {
    const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
    const c10::impl::VirtualGuardImpl gpu(c10::kCUDA);
    const c10::Stream now = gpu.getStream(device);
    const c10::Stream side = side_stream(gpu, device);
    const auto& host = *static_cast<at::Tensor*>(tensor);
    at::Tensor there;
    {
      const c10::StreamGuard guard(side);
      there = host.to(host.options().device(device), /*non_blocking=*/true);
    }
    c10::Event arrived(c10::kCUDA);
    arrived.record(side);
    arrived.block(now);
    // Its memory belongs to the side stream and must not be given away while this one reads it.
    there.record_stream(now);
    *out = new at::Tensor(std::move(there));
    return 0;
  } catch (...) {
    return 1;
  }
}

// GPU `index` is the one that is meant where none is named; how it computes: TF32 in products and convolutions or whole f32; always the same bits or the fastest kernels.
int rankle_cuda_modes(int index, int tf32, int deterministic) {
  try {
    c10::impl::VirtualGuardImpl(c10::kCUDA).setDevice(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)));
    auto& context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32 != 0);
    context.setAllowTF32CuDNN(tf32 != 0);
    context.setBenchmarkCuDNN(deterministic == 0);
    context.setDeterministicCuDNN(deterministic != 0);
    if (deterministic) {
      // cuBLAS reads it when it starts.
      setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
      context.setDeterministicAlgorithms(true, /*warn_only=*/true);
    }
    return 0;
  } catch (...) {
    return 1;
  }
}

// The most bytes that tensors have taken on GPU `index` since the last call with `reset`, or -1.
int64_t rankle_cuda_peak(int index, int reset) {
  try {
    auto* allocator = c10::getDeviceAllocator(c10::kCUDA);
    const auto device = static_cast<c10::DeviceIndex>(index);
    // The first statistic is that of all pools together.
    const int64_t peak = allocator->getDeviceStats(device).allocated_bytes[0].peak;
    if (reset) allocator->resetPeakStats(device);
    return peak;
  } catch (...) {
    return -1;
  }
}

// Gives the memory that no tensor of GPU `index` takes back to the device.
void rankle_cuda_release(void) {
  try {
    c10::getDeviceAllocator(c10::kCUDA)->emptyCache();
  } catch (...) {
  }
}

// The bytes of memory that GPU `index` has in all, or -1.
int64_t rankle_cuda_memory(int index) {
  try {
    return static_cast<int64_t>(c10::getDeviceAllocator(c10::kCUDA)->getMemoryInfo(static_cast<c10::DeviceIndex>(index)).second);
  } catch (...) {
    return -1;
  }
}
}
