// Tensor functions that tch leaves out. Nothing throws across the border.

#include <ATen/ATen.h>
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

} // namespace

extern "C" {

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
