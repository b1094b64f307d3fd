// Writes a network as TorchScript with its variables as named parameters and buffers, which tch's own tracing turns
// into constants. Called by src/export.rs; nothing throws across the border.

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/serialization/export.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "guarded.h"

namespace {

using torch::jit::Module;

// A variable, by its dotted name; `tensor` is an at::Tensor*.
struct Variable {
  const char* name;
  const void* tensor;
  int32_t trainable;
};

// The network: `count` at::Tensor* in, and 0 with a new at::Tensor in `output` (now ours), or anything else where it
// failed. Rust's side lets no panic out.
using Forward = int32_t (*)(void* context, const void* const* inputs, size_t count, void** output);

struct Node {
  std::map<std::string, Node> children;
  std::vector<std::pair<std::string, const Variable*>> variables;
};

// A module for `node` and all below it. `training` is there because eval() and train() look for it in every module.
Module build(const Node& node, const std::string& name, const std::shared_ptr<torch::jit::CompilationUnit>& unit) {
  Module module(c10::QualifiedName("__torch__." + name), unit, /*shouldMangle=*/true);
  module.register_attribute("training", c10::BoolType::get(), false);
  for (const auto& [leaf, variable] : node.variables) {
    const auto& tensor = *static_cast<const at::Tensor*>(variable->tensor);
    if (variable->trainable) {
      module.register_parameter(leaf, tensor, /*is_buffer=*/false);
    } else {
      module.register_buffer(leaf, tensor);
    }
  }
  for (const auto& [child, below] : node.children) {
    module.register_module(child, build(below, "Scope", unit));
  }
  return module;
}

// A tensor that the network used and that is no variable of its store would become a constant of the graph: neither
// trained nor moved with the module. Numbers (no axes, on the CPU) are constants by right.
void refuse_constants(const at::ArrayRef<torch::jit::Block*> blocks) {
  for (const auto* block : blocks) {
    for (const auto* node : block->nodes()) {
      refuse_constants(const_cast<torch::jit::Node*>(node)->blocks());
      if (node->kind() == c10::prim::Constant && node->hasAttribute(c10::attr::value) &&
          node->kindOf(c10::attr::value) == torch::jit::AttributeKind::t) {
        const auto& tensor = node->t(c10::attr::value);
        if (tensor.dim() > 0 || !tensor.is_cpu()) {
          throw std::runtime_error("the network uses a tensor that is no variable of its store");
        }
      }
    }
  }
}

std::string trace(const Variable* variables, size_t variable_count, const void* const* inputs, size_t input_count,
           Forward forward, void* context, const char* about, bool fold) {
  at::NoGradGuard no_grad;
  Node root;
  for (size_t i = 0; i < variable_count; ++i) {
    Node* node = &root;
    std::string rest = variables[i].name;
    for (size_t dot; (dot = rest.find('.')) != std::string::npos; rest = rest.substr(dot + 1)) {
      node = &node->children[rest.substr(0, dot)];
    }
    node->variables.emplace_back(rest, &variables[i]);
  }
  auto unit = std::make_shared<torch::jit::CompilationUnit>();
  Module module = build(root, "Network", unit);

  torch::jit::Stack stack;
  std::vector<std::string> names;
  for (size_t i = 0; i < input_count; ++i) {
    stack.emplace_back(*static_cast<const at::Tensor*>(inputs[i]));
    names.push_back(input_count == 1 ? "input" : "input" + std::to_string(i + 1));
  }
  auto run = [&](torch::jit::Stack arguments) -> torch::jit::Stack {
    std::vector<at::Tensor> tensors;
    std::vector<const void*> pointers;
    for (const auto& argument : arguments) {
      tensors.push_back(argument.toTensor());
    }
    for (const auto& tensor : tensors) {
      pointers.push_back(&tensor);
    }
    void* output = nullptr;
    if (forward(context, pointers.data(), pointers.size(), &output) != 0 || output == nullptr) {
      throw std::runtime_error("the network failed");
    }
    std::unique_ptr<at::Tensor> result(static_cast<at::Tensor*>(output));
    return {*result};
  };
  auto traced = torch::jit::tracer::trace(
      stack, run, [](const at::Tensor&) { return std::string(); }, /*strict=*/true, /*force_outplace=*/false, &module,
      names);
  refuse_constants(traced.first->graph->block());
  module.type()->addMethod(unit->create_function(c10::QualifiedName(*module.type()->name(), "forward"),
                                                 traced.first->graph));

  // What lies on another device is saved as it would lie on the CPU, so that the file loads everywhere. The copy keeps
  // the network itself where it is, but forgets which tensors want gradients.
  Module saved = module.deepcopy(at::Device(at::kCPU));
  auto copies = saved.named_parameters();
  auto copy = copies.begin();
  for (const auto& original : module.named_parameters()) {
    auto tensor = (*copy).value;
    if (!tensor.is_same(original.value)) {
      tensor.set_requires_grad(original.value.requires_grad());
    }
    ++copy;
  }
  // Variables become constants, and what comes of constants alone too: normalisations go into their convolutions.
  if (fold) saved = torch::jit::freeze(saved);
  // Through memory: given a path, libtorch would put the temporary file's name into the archive; and its writer throws
  // from its destructor where the disk is full, which ends the process.
  std::ostringstream bytes;
  saved.save(bytes, {{"model.json", about}});
  return bytes.str();
}

}  // namespace

// 0; 1 with what went wrong in `error`, which has room for `room` bytes; or, where the file could not be written, the system's
// number for why, negated.
extern "C" int32_t rankle_trace(const Variable* variables, size_t variable_count, const void* const* inputs,
                                size_t input_count, Forward forward, void* context, const char* about, const char* path,
                                int32_t fold, char* error, size_t room) {
  std::string bytes;
  const int failed = guarded(error, room, [&] {
    try {
      bytes = trace(variables, variable_count, inputs, input_count, forward, context, about, fold != 0);
    } catch (const std::exception& e) {
      // This message begins with a whole tensor.
      if (std::strstr(e.what(), "observable data dependence") != nullptr) {
        throw std::runtime_error("the answer does not depend on the input");
      }
      throw;
    }
  });
  if (failed != 0) return failed;
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush();
  return file ? 0 : errno != 0 ? -errno : -EIO;
}
