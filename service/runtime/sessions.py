"""ONNX Runtime behind the vision code's `Session` Protocol; nothing else imports it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from service.runtime import deadline

# Read once, at import: without it the runtime writes a device id to the home folder and reports to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort


class GraphError(RuntimeError):
    """The runtime cannot load a graph."""


class OrtSession:
    """A graph on the CPU; `run` may be called from several threads at once.

    graph: the bytes of an ONNX file. threads: how many one `run` uses. Raises GraphError.
    """

    def __init__(self, graph: bytes, threads: int = 1) -> None:
        try:
            self._session = ort.InferenceSession(graph, _options(threads), providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors share no base class of their own
            raise GraphError(f"ONNX Runtime {ort.__version__} cannot load the graph: {error}") from error
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Feed arrays by input name; get the outputs in the graph's own order.

        A caller whose deadline has passed gets ExpiredError instead: a detection ends at its next graph.
        """
        deadline.check()
        outputs: Sequence[NDArray[Any]] = self._session.run(None, dict(inputs))
        return outputs


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Images come in all sizes: the arena and the memory patterns would keep the largest of each for good.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # A spinning thread burns a core that another request needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights outside of the graph's file would be taken from the working directory, whatever they are.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.log_severity_level = 3
    return options
