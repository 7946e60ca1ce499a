"""A training step as one CUDA graph: recorded once, then replayed whole.

A step of a network for small faces is more than a thousand kernels of some microseconds each. A processor
takes longer to launch them one by one than a GPU to run them; a replay is one launch
(Gray, "Getting Started with CUDA Graphs", 2019).
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

Step = Callable[[Tensor], None]
# In the first steps cuDNN tries its algorithms, and the optimiser allocates its state.
BEFORE_RECORDING = 3


def replayed(step: Step, generator: Generator) -> Step:
    """The same step; on a GPU it is recorded and replayed.

    step: takes positions (B,) of images, as many each time, and reads nothing else that is new each time but
    tensors that were there when it was recorded. generator: what it draws from, on the step's device.
    """
    return Replay(step, generator) if generator.device.type == "cuda" else step


class Replay:
    """A step that is recorded after its first few calls."""

    def __init__(self, step: Step, generator: Generator) -> None:
        self.step, self.taken = step, 0
        self.stream = torch.cuda.Stream(generator.device)  # type: ignore[no-untyped-call]
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(generator)

    def __call__(self, index: Tensor) -> None:
        if self.taken < BEFORE_RECORDING:
            self._run(index)
        else:
            if self.taken == BEFORE_RECORDING:
                self._record(index)
            self.index.copy_(index)
            self.graph.replay()
        self.taken += 1

    def _run(self, index: Tensor) -> None:
        """Kernel by kernel, on the stream on which it will be recorded."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            self.step(index)
        current.wait_stream(self.stream)

    def _record(self, index: Tensor) -> None:
        """Note the kernels of one step without running them."""
        self.index = index.clone()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self.step(self.index)
