// Tensor functions that tch leaves out. Nothing throws across the border.

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "guarded.h"

namespace {

// A function whose gradient is a closure of Rust's (src/node.rs), which this owns.
struct OwnGradient final : torch::autograd::Node {
  // Takes `slope`; writes new slopes of inputs, where there are any, or why it can't.
  using Call = int32_t(
      const void* closure, void* slope, const bool* needed, void** slopes, size_t count, char* why, size_t length);
  using Forget = void(void* closure);

  OwnGradient(torch::autograd::edge_list inputs, void* closure, Call* call, Forget* forget)
      : Node(std::move(inputs)), closure(closure), call(call), forget(forget) {}
  ~OwnGradient() override { release_variables(); }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closure != nullptr) forget(std::exchange(closure, nullptr));
  }

  torch::autograd::variable_list apply(torch::autograd::variable_list&& slope) override {
    // An error says so, where a wrong second derivative would not.
    TORCH_CHECK(!at::GradMode::is_enabled(), "what computes its gradient by itself here has no second derivative");
    const size_t count = num_outputs();
    torch::autograd::variable_list found(count);
    if (!slope[0].defined()) return found;
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(closure != nullptr, torch::autograd::ERR_BACKWARD_TWICE);
    const auto needed = std::make_unique<bool[]>(count);
    for (size_t i = 0; i < count; ++i) needed[i] = task_should_compute_output(i);
    std::vector<void*> slopes(count, nullptr);
    char why[1024];
    auto* given = new at::Tensor(std::move(slope[0]));
    const bool failed = call(closure, given, needed.get(), slopes.data(), count, why, sizeof why) != 0;
    for (size_t i = 0; i < count; ++i) {
      const std::unique_ptr<at::Tensor> owned(static_cast<at::Tensor*>(slopes[i]));
      if (owned != nullptr) found[i] = std::move(*owned);
    }
    TORCH_CHECK(!failed, why);
    return found;
  }

  void* closure;
  Call* call;
  Forget* forget;
};

// Calls an operator of oneDNN's by its name; null where it isn't there or throws.
void* called(const char* name, const char* overload, std::vector<c10::IValue> stack) {
  try {
    const auto op = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!op) return nullptr;
    op->callBoxed(&stack);
    return new at::Tensor(stack.at(0).toTensor());
  } catch (...) {
    return nullptr;
  }
}

// A window is stride, padding (two numbers each) and groups.
c10::IValue pair(const int64_t* at) { return std::vector<int64_t>{at[0], at[1]}; }

} // namespace

extern "C" {

// Whether autocast has the CPU compute in bfloat16 (the only kind that this library asks for).
bool rankle_casts() { return at::autocast::is_autocast_enabled(at::kCPU); }

// Whether what is computed on this thread now gets a history.
bool rankle_keeps_gradients() { return at::GradMode::is_enabled(); }

// A convolution's weight packed for inputs like `like`.
void* rankle_pack(const void* weight, const void* like, const int64_t* window) {
  const auto tensor = [](const void* p) -> const at::Tensor& { return *static_cast<const at::Tensor*>(p); };
  const auto one = std::vector<int64_t>{1, 1};
  return called("mkldnn::_reorder_convolution_weight", "",
      {tensor(weight), pair(window + 2), pair(window), one, window[4], tensor(like).sizes().vec()});
}

// max(y, 0) + slope min(y, 0) of y = conv(x) + bias, plus `added` where it isn't null, in one pass. The sum is written where
// `added` was: the operator that leaves it alone copies it first, which takes longer than many a convolution.
void* rankle_folded(
    const void* x, const void* weight, const void* bias, const void* added, const int64_t* window, double slope) {
  const auto tensor = [](const void* p) -> const at::Tensor& { return *static_cast<const at::Tensor*>(p); };
  const auto one = std::vector<int64_t>{1, 1};
  c10::List<std::optional<at::Scalar>> scalars;
  std::string after = slope == 1 ? "none" : slope == 0 ? "relu" : "leaky_relu";
  if (after == "leaky_relu") scalars.push_back(at::Scalar(slope));
  if (added == nullptr) {
    return called("mkldnn::_convolution_pointwise", "",
        {tensor(x), tensor(weight), tensor(bias), pair(window + 2), pair(window), one, window[4], after, scalars, ""});
  }
  const c10::IValue unary = slope == 1 ? c10::IValue() : c10::IValue(after);
  return called("mkldnn::_convolution_pointwise_", "binary",
      {tensor(added), tensor(x), tensor(weight), tensor(bias), pair(window + 2), pair(window), one, window[4], "add",
       at::Scalar(1.0), unary, scalars, ""});
}

// max(x, 0) + slope min(x, 0), in place; tch's leaky_relu has no slope argument. 0 is success.
int32_t rankle_leaky_relu(void* tensor, double slope) {
  try {
    at::leaky_relu_(*static_cast<at::Tensor*>(tensor), slope);
    return 0;
  } catch (...) {
    return 1;
  }
}

// A new at::Tensor* with the numbers of `y`, whose gradient the closure leads back to the inputs. 0, or 1 after writing why.
int32_t rankle_node(
    const void* y, const void* const* inputs, size_t count, void* closure, OwnGradient::Call* call,
    OwnGradient::Forget* forget, void** out, char* why, size_t length) {
  return guarded(why, length, [&] {
    const auto tensor = [](const void* p) -> const at::Tensor& { return *static_cast<const at::Tensor*>(p); };
    torch::autograd::edge_list edges;
    for (size_t i = 0; i < count; ++i) edges.push_back(torch::autograd::impl::gradient_edge(tensor(inputs[i])));
    const std::shared_ptr<OwnGradient> node(
        new OwnGradient(std::move(edges), closure, call, forget), torch::autograd::deleteNode);
    // Another tensor than the caller's: one that the closure keeps would keep the closure.
    at::Tensor made = tensor(y).detach();
    torch::autograd::set_history(made, node);
    *out = new at::Tensor(std::move(made));
  });
}

// What libtorch warns of on this thread goes to `say` from now on; a backward pass hands what its threads warn of to the
// thread that waits for it.
void rankle_warnings(void (*say)(const char*)) {
  struct Handler : c10::WarningHandler {
    void (*say)(const char*) = nullptr;
    void process(const c10::Warning& warning) override { say(warning.msg().c_str()); }
  };
  static Handler handler;
  handler.say = say;
  c10::WarningUtils::set_warning_handler(&handler);
}
}
