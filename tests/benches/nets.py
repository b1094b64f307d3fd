"""The networks of the peers' side in PyTorch's own modules: TriNet on torchvision's ResNet-50, LuNet, Inception-ResNet-v1."""

import torch


class Head(torch.nn.Sequential):
    def __init__(self, inputs, hidden, slope):
        nn = torch.nn
        super().__init__(nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.LeakyReLU(slope, inplace=True),
                         nn.Linear(hidden, 128))


class Block(torch.nn.Module):
    """Pre-activation, as LuNet's: batch normalisation, leaky ReLU, convolution; a 1x1 shortcut where channels change."""

    def __init__(self, layers):
        super().__init__()
        nn, parts = torch.nn, []
        for inputs, outputs, kernel in layers:
            parts += [nn.BatchNorm2d(inputs), nn.LeakyReLU(0.3, inplace=True),
                      nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)]
        self.body = nn.Sequential(*parts)
        first, last = layers[0][0], layers[-1][1]
        self.short = nn.Conv2d(first, last, 1, bias=False) if first != last else nn.Identity()

    def forward(self, x):
        # The body's first operation makes a new tensor, so the in-place ones leave x alone.
        return self.body(x) + self.short(x)


def lunet():
    nn = torch.nn
    pool = lambda: nn.MaxPool2d(3, 2, 1)
    block = lambda a, b, c: Block([(a, b, 1), (b, b, 3), (b, c, 1)])
    return nn.Sequential(
        nn.Conv2d(3, 128, 7, padding=3, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.3, inplace=True),
        block(128, 32, 128), pool(), block(128, 32, 128), block(128, 32, 128), block(128, 64, 256), pool(),
        block(256, 64, 256), block(256, 64, 256), pool(), block(256, 64, 256), block(256, 64, 256), block(256, 128, 512),
        pool(), block(512, 128, 512), block(512, 128, 512), pool(),
        Block([(512, 512, 3), (512, 128, 3)]), nn.Flatten(), Head(128 * 4 * 2, 512, 0.3),
    )


def trinet():
    import torchvision
    net = torchvision.models.resnet50()
    net.fc = Head(2048, 1024, 0.0)
    return net


def unit(inputs, outputs, kernel, stride=1, same=True):
    nn = torch.nn
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = tuple(side // 2 for side in kernel) if same else 0
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs, 1e-3), nn.ReLU(inplace=True))


class Residual(torch.nn.Module):
    """Inception-ResNet (Szegedy et al. 2016): branches side by side, a linear 1x1, added to the input by a scale."""

    def __init__(self, inputs, branches, scale, relu=True):
        super().__init__()
        self.branches = torch.nn.ModuleList(branches)
        outputs = sum([part for part in branch.modules() if isinstance(part, torch.nn.Conv2d)][-1].out_channels for branch in branches)
        self.join = torch.nn.Conv2d(outputs, inputs, 1)
        self.scale, self.relu = scale, relu

    def forward(self, x):
        x = self.join(torch.cat([branch(x) for branch in self.branches], 1)) * self.scale + x
        return x.relu() if self.relu else x


class Reduction(torch.nn.Module):
    def __init__(self, branches):
        super().__init__()
        self.branches = torch.nn.ModuleList([*branches, torch.nn.MaxPool2d(3, 2)])

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception_resnet_v1():
    nn, row = torch.nn, torch.nn.Sequential
    block35 = lambda: Residual(256, [unit(256, 32, 1), row(unit(256, 32, 1), unit(32, 32, 3)), row(unit(256, 32, 1), unit(32, 32, 3), unit(32, 32, 3))], 0.17)
    block17 = lambda: Residual(896, [unit(896, 128, 1), row(unit(896, 128, 1), unit(128, 128, (1, 7)), unit(128, 128, (7, 1)))], 0.10)
    block8 = lambda scale=0.20, relu=True: Residual(1792, [unit(1792, 192, 1), row(unit(1792, 192, 1), unit(192, 192, (1, 3)), unit(192, 192, (3, 1)))], scale, relu)
    half = dict(stride=2, same=False)
    return row(
        unit(3, 32, 3, **half), unit(32, 32, 3, same=False), unit(32, 64, 3), nn.MaxPool2d(3, 2), unit(64, 80, 1), unit(80, 192, 3, same=False), unit(192, 256, 3, **half),
        *[block35() for _ in range(5)],
        Reduction([unit(256, 384, 3, **half), row(unit(256, 192, 1), unit(192, 192, 3), unit(192, 256, 3, **half))]),
        *[block17() for _ in range(10)],
        Reduction([row(unit(896, 256, 1), unit(256, 384, 3, **half)), row(unit(896, 256, 1), unit(256, 256, 3, **half)),
                   row(unit(896, 256, 1), unit(256, 256, 3), unit(256, 256, 3, **half))]),
        *[block8() for _ in range(5)], block8(1.0, False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.6), nn.Linear(1792, 512, bias=False), nn.BatchNorm1d(512, 1e-3), Unit(),
    )


class Unit(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.normalize(x)
