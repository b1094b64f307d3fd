// Traces a Rust forward pass into a TorchScript module whose weights keep their names.
//
// tch's own tracing makes the weights constants: no named parameters, no move to another device, no training. Here a
// module is built first, one submodule a dot in the names, and the tracer is told of it; what the callback computes
// with those tensors becomes attribute look-ups in the graph.

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/passes/lower_graph.h>
#include <torch/script.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace {

using torch::jit::Module;

// The submodule for all but the last part of a dotted name, made where it is missing.
Module place(Module module, const std::string& name, std::string* last) {
  size_t from = 0;
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', from)) {
    const std::string part = name.substr(from, dot - from);
    if (!module.hasattr(part)) {
      // A class name holds no dots of its own and starts no part with a digit, as torchvision's "layer1.0" would.
      std::string type = name.substr(0, dot);
      std::replace(type.begin(), type.end(), '.', '_');
      Module child("__torch__.Part_" + type, module._ivalue()->compilation_unit());
      child.register_attribute("training", c10::BoolType::get(), false);
      module.register_module(part, child);
    }
    module = module.attr(part).toModule();
    from = dot + 1;
  }
  *last = name.substr(from);
  return module;
}

// The first line of an error, in a buffer that rankle_free gives back.
char* message(const char* what) {
  const char* end = std::strchr(what, '\n');
  const std::string line = end ? std::string(what, end) : std::string(what);
  char* copy = static_cast<char*>(std::malloc(line.size() + 1));
  if (copy) std::memcpy(copy, line.c_str(), line.size() + 1);
  return copy;
}

}  // namespace

extern "C" {

void rankle_free(char* text) { std::free(text); }

// Saves to `path` the module with these tensors whose forward is what `forward(context, inputs, count)` computes.
// The callback returns a new tensor, or null where it failed. Returns null, or an error for rankle_free.
char* rankle_trace(const char* const* names, at::Tensor* const* tensors, const int* trainable, int count,
                   at::Tensor* const* inputs, const char* const* input_names, int input_count,
                   at::Tensor* (*forward)(void*, at::Tensor**, int), void* context, const char* path) {
  try {
    Module module("__torch__.Network");
    module.register_attribute("training", c10::BoolType::get(), false);
    for (int i = 0; i < count; ++i) {
      std::string last;
      Module owner = place(module, names[i], &last);
      if (trainable[i]) {
        owner.register_parameter(last, *tensors[i], /*is_buffer=*/false);
      } else {
        owner.register_buffer(last, *tensors[i]);
      }
    }

    std::vector<c10::IValue> stack;
    std::vector<std::string> argument_names;
    for (int i = 0; i < input_count; ++i) {
      stack.emplace_back(*inputs[i]);
      argument_names.emplace_back(input_names[i]);
    }
    auto body = [&](torch::jit::Stack given) -> torch::jit::Stack {
      std::vector<at::Tensor> held;
      for (auto& value : given) held.push_back(value.toTensor());
      std::vector<at::Tensor*> pointers;
      for (auto& tensor : held) pointers.push_back(&tensor);
      at::Tensor* made = forward(context, pointers.data(), static_cast<int>(pointers.size()));
      if (!made) throw std::runtime_error("the forward pass failed");
      at::Tensor output = *made;
      delete made;
      return {output};
    };
    auto no_names = [](const at::Tensor&) -> std::string { return ""; };
    auto traced = torch::jit::tracer::trace(stack, body, no_names, /*strict=*/true, /*force_outplace=*/false, &module,
                                            argument_names);
    auto graph = traced.first->graph;
    auto function = module._ivalue()->compilation_unit()->create_function("__torch__.Network.forward", graph);
    module.type()->addMethod(function);
    module.save(path);
    return nullptr;
  } catch (const std::exception& error) {
    return message(error.what());
  } catch (...) {
    return message("an unknown C++ error");
  }
}
}
