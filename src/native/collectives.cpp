// torch.distributed's own engine, c10d: a store where processes meet, a process group (gloo on CPUs, NCCL on GPUs),
// and the reducer that sums gradients in buckets while the backward pass still runs.
//
// Nothing throws across the border: a function returns 0, or 1 after writing what libtorch said into `error`.

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <c10/util/Flags.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include "guarded.h"

// libtorch carries gloo but not its headers. ProcessGroupGloo.hpp only passes these types on by pointer, so their names
// are enough; the build script leaves empty files where it includes gloo's own.
namespace gloo {
class Context {
 public:
  virtual ~Context() = default;
  void setTimeout(std::chrono::milliseconds);
};
namespace transport {
class Device {
 public:
  virtual ~Device() = default;
};
class UnboundBuffer {
 public:
  virtual ~UnboundBuffer() = default;
};
} // namespace transport
namespace rendezvous {
class Store {
 public:
  virtual ~Store() = default;
  virtual void set(const std::string&, const std::vector<char>&) = 0;
  virtual std::vector<char> get(const std::string&) = 0;
  virtual void wait(const std::vector<std::string>&) = 0;
  virtual void wait(const std::vector<std::string>&, const std::chrono::milliseconds&) = 0;
};
} // namespace rendezvous
} // namespace gloo
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#ifdef RANKLE_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "of_cuda.h"
#endif

C10_DECLARE_int(caffe2_log_level);

using std::chrono::milliseconds;

namespace {

struct World {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  // Kept beside the group, which the shared pointers of collectives under way may outlive.
  c10::intrusive_ptr<c10d::Backend> backend;
  int rank;
  int size;
};

c10::intrusive_ptr<c10d::Store> meet(const char* host, int port, bool server, const char* prefix, milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(port);
  options.isServer = server;
  options.waitWorkers = false;
  options.timeout = timeout;
  auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
  return c10::make_intrusive<c10d::PrefixStore>(prefix, std::move(store));
}

// The interface that the environment names (the first of several), or the one that owns `address`.
std::shared_ptr<gloo::transport::Device> gloo_device(const std::string& address) {
  const char* named = std::getenv("GLOO_SOCKET_IFNAME");
  std::string name = named ? named : "";
  name = name.substr(0, name.find(','));
  if (!name.empty()) return c10d::ProcessGroupGloo::createDeviceForInterface(name);
  if (!address.empty()) return c10d::ProcessGroupGloo::createDeviceForHostname(address);
  return c10d::ProcessGroupGloo::createDefaultDevice();
}

// The sum over all processes. Every process holds a part of one loss's graph, so the gradient with respect to what a
// process put in is the sum of what comes back to all of them.
struct AllSum : torch::autograd::Function<AllSum> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, int64_t world) {
    context->saved_data["world"] = world;
    return sum(x, world);
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    return {sum(gradients[0], context->saved_data["world"].toInt()), at::Tensor()};
  }
  static at::Tensor sum(const at::Tensor& x, int64_t world) {
    std::vector<at::Tensor> all{x.detach().clone(at::MemoryFormat::Contiguous)};
    reinterpret_cast<World*>(world)->group->allreduce(all)->wait();
    return all[0];
  }
};

} // namespace

extern "C" {

// Whether this build can drive GPUs together.
int rankle_world_has_nccl() {
#ifdef RANKLE_NCCL
  return 1;
#else
  return 0;
#endif
}

// libtorch's warnings are written for those who program it (strides of buckets, attempts to connect): errors alone are
// shown from now on, unless the environment asks for more.
void rankle_world_quiet() {
  if (!std::getenv("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = 2;
}

// A connection of its own to the store at host:port.
int rankle_store_open(
    const char* host, int port, int server, const char* prefix, double seconds, void** out, char* error, size_t length) {
  return guarded(error, length, [&] {
    auto timeout = milliseconds(static_cast<int64_t>(seconds * 1000));
    *out = new c10::intrusive_ptr<c10d::Store>(meet(host, port, server != 0, prefix, timeout));
  });
}

void rankle_store_close(void* store) { delete static_cast<c10::intrusive_ptr<c10d::Store>*>(store); }

int rankle_store_set(void* store, const char* key, const char* value, char* error, size_t length) {
  return guarded(error, length, [&] {
    (*static_cast<c10::intrusive_ptr<c10d::Store>*>(store))->set(key, std::string(value));
  });
}

// The value of `key` into `value` (cut to `size`), or an empty text where there is none yet: never waits for one.
int rankle_store_get(void* store, const char* key, char* value, size_t size, char* error, size_t length) {
  return guarded(error, length, [&] {
    auto& at = *static_cast<c10::intrusive_ptr<c10d::Store>*>(store);
    value[0] = 0;
    if (!at->check({std::string(key)})) return;
    const std::string found = at->get_to_str(key);
    std::strncpy(value, found.c_str(), size - 1);
    value[size - 1] = 0;
  });
}

// The number at `key`, 0 at first, plus one: kept in the store and given back.
int rankle_store_count(void* store, const char* key, int64_t* out, char* error, size_t length) {
  return guarded(error, length, [&] { *out = (*static_cast<c10::intrusive_ptr<c10d::Store>*>(store))->add(key, 1); });
}

// `store` is one of rankle_store_open's; `host` is this machine's address as the others reach it; `cuda` is the GPU's
// number or -1.
int rankle_world_open(
    void* store, const char* host, int rank, int size, int cuda, double seconds, void** out, char* error, size_t length) {
  return guarded(error, length, [&] {
    auto world = std::make_unique<World>();
    world->rank = rank;
    world->size = size;
    world->store = *static_cast<c10::intrusive_ptr<c10d::Store>*>(store);
    auto timeout = milliseconds(static_cast<int64_t>(seconds * 1000));
    world->group = c10::make_intrusive<c10d::ProcessGroup>(world->store, rank, size);
    if (cuda < 0) {
      auto options = c10d::ProcessGroupGloo::Options::create(timeout);
      options->devices.push_back(gloo_device(host));
      world->backend = c10::make_intrusive<c10d::ProcessGroupGloo>(world->store, rank, size, options);
      world->group->setBackend(c10::kCPU, c10d::ProcessGroup::BackendType::GLOO, world->backend);
      world->group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
    } else {
#ifdef RANKLE_NCCL
      using Nccl = c10d::ProcessGroupNCCL;
      auto options = c10::intrusive_ptr<Nccl::Options>::unsafe_steal_from_new(
          new_of_cuda<Nccl::Options>("_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb", /*is_high_priority_stream=*/false));
      options->timeout = timeout;
      world->backend = c10::intrusive_ptr<Nccl>::unsafe_steal_from_new(new_of_cuda<Nccl>(
          "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_typeIS3_"
          "EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE",
          world->store, rank, size, options));
      world->group->setBackend(c10::kCUDA, c10d::ProcessGroup::BackendType::NCCL, world->backend);
      world->group->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
#else
      TORCH_CHECK(false, "this build has no NCCL");
#endif
    }
    *out = world.release();
  });
}

void rankle_world_close(void* world) { delete static_cast<World*>(world); }

// In place: the sum over all processes.
int rankle_world_sum(void* world, void* tensor, char* error, size_t length) {
  return guarded(error, length, [&] {
    std::vector<at::Tensor> all{*static_cast<at::Tensor*>(tensor)};
    static_cast<World*>(world)->group->allreduce(all)->wait();
  });
}

// In place: what process `root` has.
int rankle_world_broadcast(void* world, void* tensor, int root, char* error, size_t length) {
  return guarded(error, length, [&] {
    std::vector<at::Tensor> all{*static_cast<at::Tensor*>(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    static_cast<World*>(world)->group->broadcast(all, options)->wait();
  });
}

// `out` [size * n, ...] takes the `in` [n, ...] of all processes in their order; both contiguous.
int rankle_world_gather(void* world, void* out, void* in, char* error, size_t length) {
  return guarded(error, length, [&] {
    auto& all = *static_cast<at::Tensor*>(out);
    auto& own = *static_cast<at::Tensor*>(in);
    static_cast<World*>(world)->group->_allgather_base(all, own)->wait();
  });
}

// A new tensor: the sum over all processes, through which gradients flow back to all of them.
int rankle_world_sum_with_grad(void* world, void* tensor, void** out, char* error, size_t length) {
  return guarded(error, length, [&] {
    auto sum = AllSum::apply(*static_cast<at::Tensor*>(tensor), reinterpret_cast<int64_t>(world));
    *out = new at::Tensor(std::move(sum));
  });
}

// c10d's reducer over `parameters`, in buckets of torch.distributed's default sizes; the last parameters come first,
// since their gradients do. With `some_unused` parameters that a loss doesn't touch are found in its graph and not waited for.
int rankle_reducer_new(void* world, void** parameters, size_t count, int some_unused, void** out, char* error, size_t length) {
  return guarded(error, length, [&] {
    std::vector<at::Tensor> all;
    for (size_t i = 0; i < count; ++i) all.push_back(*static_cast<at::Tensor*>(parameters[i]));
    std::vector<size_t> limits{c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap};
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(all, limits, std::vector<bool>(count, false)));
    std::reverse(buckets.begin(), buckets.end());
    *out = new c10d::Reducer(
        std::move(all), std::move(buckets), static_cast<World*>(world)->group, std::vector<bool>(count, false),
        c10d::kDefaultBucketBytesCap, /*find_unused_parameters=*/some_unused != 0, /*gradient_as_bucket_view=*/true, {},
        c10d::kDefaultFirstBucketBytes, /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, {});
  });
}

void rankle_reducer_free(void* reducer) {
  try {
    delete static_cast<c10d::Reducer*>(reducer);
  } catch (...) {
    // A process that is going away anyway.
  }
}

// The backward pass of `loss`; at its end every parameter's gradient is the mean over all processes.
int rankle_reducer_backward(void* reducer, void* loss, char* error, size_t length) {
  return guarded(error, length, [&] {
    auto& engine = *static_cast<c10d::Reducer*>(reducer);
    auto& scalar = *static_cast<at::Tensor*>(loss);
    engine.prepare_for_forward();
    engine.prepare_for_backward({scalar});
    scalar.backward();
  });
}

// Gradients that several backward passes have added up: in place the sum over all processes, about 25 MB at a time.
int rankle_world_sum_gradients(void* world, void** parameters, size_t count, char* error, size_t length) {
  return guarded(error, length, [&] {
    struct Bucket {
      std::vector<at::Tensor> gradients;
      std::vector<at::Tensor> flat;
      c10::intrusive_ptr<c10d::Work> work;
    };
    std::vector<Bucket> buckets;
    Bucket now;
    int64_t bytes = 0;
    auto launch = [&] {
      if (now.gradients.empty()) return;
      std::vector<at::Tensor> rows;
      for (auto& g : now.gradients) rows.push_back(g.reshape({-1}));
      now.flat = {at::cat(rows)};
      now.work = static_cast<World*>(world)->group->allreduce(now.flat);
      buckets.push_back(std::move(now));
      now = Bucket();
      bytes = 0;
    };
    for (size_t i = 0; i < count; ++i) {
      auto& x = *static_cast<at::Tensor*>(parameters[i]);
      // A parameter without a gradient here may have one elsewhere.
      if (!x.grad().defined()) x.mutable_grad() = at::zeros_like(x);
      auto gradient = x.grad();
      const bool other = !now.gradients.empty() && gradient.scalar_type() != now.gradients[0].scalar_type();
      if (other || bytes > c10d::kDefaultBucketBytesCap) launch();
      bytes += static_cast<int64_t>(gradient.nbytes());
      now.gradients.push_back(gradient);
    }
    launch();
    for (auto& bucket : buckets) {
      bucket.work->wait();
      int64_t from = 0;
      for (auto& gradient : bucket.gradients) {
        gradient.copy_(bucket.flat[0].narrow(0, from, gradient.numel()).view(gradient.sizes()));
        from += gradient.numel();
      }
    }
  });
}
}
