// Tensor functions that tch leaves out. Nothing throws across the border.

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>

#include <cstdint>

namespace {

// A number whose gradient is known already: one node, where (x * gradient).sum() less itself plus the number are nine.
struct Known : torch::autograd::Function<Known> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& gradient, const at::Tensor& value) {
    context->saved_data["gradient"] = gradient;
    return value.to(x.options(), /*non_blocking=*/false, /*copy=*/true);
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list slopes) {
    // Its own derivative is not known: an error says so, where a wrong second derivative would not.
    TORCH_CHECK(!at::GradMode::is_enabled(), "this loss has no second derivative: take the form on a matrix of distances");
    return {context->saved_data["gradient"].toTensor() * slopes[0], at::Tensor(), at::Tensor()};
  }
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

// Whether a gradient may be asked for, which oneDNN's operators do not keep.
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

// A new at::Tensor*, the scalar `value` in the kind of `x`, whose derivative with respect to `x` is `gradient`; null
// where libtorch threw.
void* rankle_known(void* x, void* gradient, void* value) {
  const auto tensor = [](void* p) -> const at::Tensor& { return *static_cast<at::Tensor*>(p); };
  try {
    return new at::Tensor(Known::apply(tensor(x), tensor(gradient), tensor(value)));
  } catch (...) {
    return nullptr;
  }
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
