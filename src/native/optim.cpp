// Steps of optimisers on lists of tensors, which tch does not wrap. Nothing throws across the border.

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
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

// Whether the numbers of `t` lie as those of `x` do; the stride of a dimension of size 1 says nothing.
bool alike(const at::Tensor& x, const at::Tensor& t) {
  if (t.scalar_type() != x.scalar_type() || t.device() != x.device() || t.sizes() != x.sizes()) return false;
  if (!t.is_non_overlapping_and_dense()) return false;
  for (int64_t i = 0; i < x.dim(); ++i) {
    if (x.size(i) != 1 && x.stride(i) != t.stride(i)) return false;
  }
  return true;
}

// Parameters, gradients and slots; the slots that a rule has not are empty.
struct Entries {
  List x, g, first, second;
};

// libtorch's fused kernels: one pass over memory. On a GPU they read `rate` and `steps` there.
void fused(int32_t rule, const Entries& all, double decay, const double* c, const at::Tensor& rate,
           const at::Tensor& steps) {
  if (rule == 0) {
    at::_fused_sgd_(all.x, all.g, all.first, decay, /*momentum=*/c[1], rate, /*dampening=*/0, /*nesterov=*/false,
                    /*maximize=*/false, /*is_first_step=*/false);
    return;
  }
  const List counts(all.x.size(), steps);
  if (rule == 1) {
    at::_fused_adam_(all.x, all.g, all.first, all.second, {}, counts, rate, c[1], c[2], decay, c[3],
                     /*amsgrad=*/false, /*maximize=*/false);
  } else {
    at::_fused_adagrad_(all.x, all.g, all.first, counts, rate, /*lr_decay=*/0, decay, c[1], /*maximize=*/false);
  }
}

// Operation after operation, for all kinds and layouts.
void listed(int32_t rule, const Entries& all, double decay, const double* c) {
  const List &x = all.x, &g = decay == 0 ? all.g : at::_foreach_add(all.g, x, decay);
  const double rate = c[0];
  if (rule == 0 && c[1] == 0) {
    at::_foreach_add_(x, g, -rate);
  } else if (rule == 0) {
    at::_foreach_mul_(all.first, c[1]);
    at::_foreach_add_(all.first, g, 1);
    at::_foreach_add_(x, all.first, -rate);
  } else if (rule == 1) {
    at::_foreach_mul_(all.first, c[1]);
    at::_foreach_add_(all.first, g, 1 - c[1]);
    at::_foreach_mul_(all.second, c[2]);
    at::_foreach_addcmul_(all.second, g, g, 1 - c[2]);
    const List root = at::_foreach_sqrt(all.second);
    at::_foreach_div_(root, c[4]);
    at::_foreach_add_(root, c[3]);
    at::_foreach_addcdiv_(x, all.first, root, -rate);
  } else {
    at::_foreach_addcmul_(all.first, g, g, 1);
    const List root = at::_foreach_sqrt(all.first);
    at::_foreach_add_(root, c[1]);
    at::_foreach_addcdiv_(x, g, root, -rate);
  }
}

}  // namespace

extern "C" {

// The equations are those of src/optim/update.rs; `c` holds their constants: rate first, then as native.rs lists them.
// `rate` and `steps` are numbers in tensors, for the fused kernels: Adam's divides the rate by 1 - β₁^steps. Returns how
// many entries were not for those, -1 where libtorch threw.
int32_t rankle_step(int32_t rule, void* const* x_, void* const* g_, void* const* first_, void* const* second_,
                    size_t count, double decay, const double* c, void* rate_, void* steps_) {
  try {
    c10::NoGradGuard no_grad;
    const auto &rate = *static_cast<at::Tensor*>(rate_), &steps = *static_cast<at::Tensor*>(steps_);
    const bool one = rule != 0 || c[1] != 0, two = rule == 1;
    Entries whole, rest;
    for (size_t i = 0; i < count; ++i) {
      const auto tensor = [i](void* const* all) -> const at::Tensor& { return *static_cast<at::Tensor*>(all[i]); };
      const auto &x = tensor(x_), &g = tensor(g_);
      if (x.numel() == 0) continue;
      const bool takes = (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble) &&
          x.device() == rate.device() && (whole.x.empty() || whole.x[0].scalar_type() == x.scalar_type()) &&
          alike(x, x) && alike(x, g) && (!one || alike(x, tensor(first_))) && (!two || alike(x, tensor(second_)));
      Entries& to = takes ? whole : rest;
      to.x.push_back(x);
      to.g.push_back(g);
      if (one) to.first.push_back(tensor(first_));
      if (two) to.second.push_back(tensor(second_));
    }
    if (!whole.x.empty()) fused(rule, whole, decay, c, rate, steps);
    if (!rest.x.empty()) listed(rule, rest, decay, c);
    return static_cast<int32_t>(rest.x.size());
  } catch (...) {
    return -1;
  }
}

// Scales `count` gradients as Optimizer::clip says; 0, or 1 where libtorch threw.
int32_t rankle_clip(void* const* gradients, size_t count, double most) {
  try {
    c10::NoGradGuard no_grad;
    const List g = list(gradients, count);
    const at::Tensor norm = at::stack(at::_foreach_norm(g, 2, at::kDouble)).norm();
    const at::Tensor scale = norm.reciprocal().mul_(most).clamp_max_(1).masked_fill_(norm.isfinite().logical_not_(), NAN);
    at::_foreach_mul_(g, scale.to(g[0].scalar_type()));
    return 0;
  } catch (...) {
    return 1;
  }
}

void rankle_drop_gradients(void* const* x, size_t count) {
  for (size_t i = 0; i < count; ++i) static_cast<at::Tensor*>(x[i])->mutable_grad().reset();
}
}
