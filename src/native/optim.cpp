// Steps of optimisers on lists of tensors, which tch does not wrap. Nothing throws across the border: 0 is success.

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstdint>
#include <vector>

namespace {

using List = std::vector<at::Tensor>;

List list(void* const* pointers, size_t count) {
  List all;
  all.reserve(count);
  for (size_t i = 0; i < count; ++i) all.push_back(*static_cast<at::Tensor*>(pointers[i]));
  return all;
}

}  // namespace

extern "C" {

// The equations are those of src/optim/update.rs; `c` holds their constants: rate first, then as native.rs lists them.
int32_t rankle_step(int32_t rule, void* const* x_, void* const* g_, void* const* first_, void* const* second_,
                    size_t count, double decay, const double* c) {
  try {
    c10::NoGradGuard no_grad;
    List x = list(x_, count), g = list(g_, count);
    if (decay != 0) g = at::_foreach_add(g, x, decay);
    const double rate = c[0];
    if (rule == 0) {
      if (c[1] == 0) {
        at::_foreach_add_(x, g, -rate);
        return 0;
      }
      List v = list(first_, count);
      at::_foreach_mul_(v, c[1]);
      at::_foreach_add_(v, g, 1);
      at::_foreach_add_(x, v, -rate);
    } else if (rule == 1) {
      List m = list(first_, count), v = list(second_, count);
      at::_foreach_mul_(m, c[1]);
      at::_foreach_add_(m, g, 1 - c[1]);
      at::_foreach_mul_(v, c[2]);
      at::_foreach_addcmul_(v, g, g, 1 - c[2]);
      List root = at::_foreach_sqrt(v);
      at::_foreach_div_(root, c[4]);
      at::_foreach_add_(root, c[3]);
      at::_foreach_addcdiv_(x, m, root, -rate);
    } else {
      List s = list(first_, count);
      at::_foreach_addcmul_(s, g, g, 1);
      List root = at::_foreach_sqrt(s);
      at::_foreach_add_(root, c[1]);
      at::_foreach_addcdiv_(x, g, root, -rate);
    }
    return 0;
  } catch (...) {
    return 1;
  }
}

void rankle_drop_gradients(void* const* x, size_t count) {
  for (size_t i = 0; i < count; ++i) static_cast<at::Tensor*>(x[i])->mutable_grad().reset();
}
}
