"""SavedModel folders, TensorFlow's own format: read without running what they bring along, and explained."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xai_panel.models.backends.tensorflow import TapeBackend, taken
from xai_panel.models.errors import ModelError

if TYPE_CHECKING:
    from xai_panel.models.frontends import FrontEnd

CALLS = "PartitionedCall StatefulPartitionedCall"
#: Operations that a network may consist of: arithmetic on tensors, and reading its own variables.
ARITHMETIC = frozenset(
    f"""{CALLS} Placeholder PlaceholderWithDefault Const Identity IdentityN NoOp StopGradient PreventGradient Snapshot
    EnsureShape VarHandleOp ReadVariableOp
    Conv2D DepthwiseConv2dNative Conv2DBackpropInput Conv3D BiasAdd BiasAddV1 MatMul BatchMatMul BatchMatMulV2
    BatchMatMulV3 Einsum FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN L2Loss
    AvgPool MaxPool MaxPoolV2 ResizeBilinear ResizeNearestNeighbor ResizeBicubic ResizeArea
    Relu Relu6 LeakyRelu Elu Selu Softplus Softsign Softmax LogSoftmax Sigmoid Tanh Erf Erfc
    Add AddV2 AddN Sub Mul MulNoNan Div DivNoNan RealDiv FloorDiv TruncateDiv FloorMod Mod Neg Reciprocal Square Sqrt
    Rsqrt SquaredDifference Pow Exp Expm1 Log Log1p Abs Sign Floor Ceil Round Rint Sin Cos Maximum Minimum ClipByValue
    Sum Mean Prod Max Min All Any ArgMax ArgMin Cumsum TopKV2
    Greater GreaterEqual Less LessEqual Equal NotEqual LogicalAnd LogicalOr LogicalNot Select SelectV2 IsNan IsFinite
    Cast Shape ShapeN Size Rank Reshape Squeeze ExpandDims Transpose Pack Unpack Concat ConcatV2 Split SplitV Slice
    StridedSlice Pad PadV2 MirrorPad Tile BroadcastTo BroadcastArgs BroadcastGradientArgs Gather GatherV2 GatherNd
    OneHot Fill Range ZerosLike OnesLike Reverse ReverseV2 SpaceToDepth DepthToSpace SpaceToBatchND BatchToSpaceND
    """.split()
)
#: Operations that read variables from the folder.
READING = frozenset(
    f"{CALLS} Placeholder PlaceholderWithDefault Const Identity NoOp VarHandleOp AssignVariableOp RestoreV2".split()
)
ACTIVATIONS = ("softmax", "sigmoid")
SIGNATURE = "serving_default"


class SavedModelBackend(TapeBackend):
    """The serving signature of a SavedModel behind its front end.

    A softmax or sigmoid at its end is left out, and the logits in front of it are explained. Layers are named as in the
    graph, without the scopes that they all share; of several operations in one scope, as a layer of Keras makes them,
    the last one is listed, which is its activation or what the convolution gives with its bias.

    Parameters
    ----------
    folder: with saved_model.pb and variables/; one float32 input (n, H, W, channels), one output (n, classes)
    to_input, shape: see `TapeBackend`

    Raises `ModelError` for a folder that cannot be read or holds operations that are not in `ARITHMETIC`, none of which
    is run, and `ValueError` for a network that takes something else, or whose probabilities are not from a softmax or
    sigmoid.
    """

    def __init__(self, folder: Path, to_input: Callable[[Any], Any], shape: tuple[int | None, ...]) -> None:
        import tensorflow as tf

        definition, given, answer = frozen(folder)
        self._network = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])
        graph = self._network.graph
        self._given, answer = (graph.get_tensor_by_name(name) for name in (given, answer))
        self._outputs = _in_front_of_probabilities(answer)
        if self._outputs.shape.rank != 2 or self._outputs.shape[1] is None:
            raise ValueError(f"{folder.name} answers with shape {self._outputs.shape}; (n, classes) is expected")
        self._whole = self._network.prune([self._given], [self._outputs])
        self._layers = _layers(graph, self._given, self._outputs)
        super().__init__(to_input, shape, int(self._outputs.shape[1]))
        sides = [size or 64 for size in shape]
        noise = np.random.default_rng(0).standard_normal((3, *sides)).astype(np.float32)
        inputs = to_input(tf.constant(noise * np.array([0, 1, 100], np.float32).reshape(3, *[1] * len(shape))))
        wanted = f"{folder.name} takes {self._given.shape} and cannot take the front end's input {tuple(inputs.shape)}"
        if not self._given.shape.is_compatible_with(inputs.shape):
            raise ValueError(wanted)
        try:
            outputs = np.asarray(self._cut(None)(inputs)[1])
        except tf.errors.OpError as error:
            raise ValueError(f"{wanted}: {_first_line(error)}") from error
        sums = outputs.sum(axis=1)
        if outputs.min() >= 0 and outputs.max() <= 1 and (self.one_logit or np.abs(sums - 1).max() < 1e-3):
            raise ValueError(
                f"{folder.name} answers with probabilities that no softmax or sigmoid gives at its end; a network "
                "that ends with either, or with logits, is expected"
            )

    @classmethod
    def behind(cls, frontend: FrontEnd, folder: Path) -> SavedModelBackend:
        """The network in `folder`, fed by `frontend`."""
        import tensorflow as tf

        return cls(
            folder, lambda x: frontend.to_input(x, lambda channels: tf.stack(list(channels), axis=-1)), taken(frontend)
        )

    def layers(self) -> list[str]:
        return list(self._layers)

    def _cut(self, layer: str | None) -> Callable[[Any], tuple[Any, Any]]:
        if layer is None:
            return lambda inputs: (None, self._whole(inputs)[0])
        values = self._layers[layer]
        front = self._network.prune([self._given], [values])
        back = self._network.prune([self._given, values], [self._outputs])

        def answers(inputs: Any) -> tuple[Any, Any]:
            seen = front(inputs)[0]
            return seen, back(inputs, seen)[0]

        return answers


def frozen(folder: Path) -> tuple[Any, str, str]:
    """The serving signature of a SavedModel as one graph without functions and variables, and its input and output.

    (GraphDef, name of the input tensor, name of the output tensor). Only what the signature's output depends on is
    read, after each of its operations, those in functions included, was looked up in `ARITHMETIC`; the variables are
    read by the folder's own operations, which are looked up in `READING`. Initialisers, assets, training and saving are
    left out. Raises `ModelError`.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    meta = _meta_graph(folder)
    ends = _ends(folder, meta)
    definition = _cleaned(_Closure(folder, meta.graph_def, ends[1:], ARITHMETIC))
    try:
        variables = {name: tf.Variable(value) for name, value in _variables(folder, meta, definition).items()}

        def network() -> None:
            graph, handles = tf.compat.v1.get_default_graph(), {}
            for name, variable in variables.items():
                graph.watch_variable(variable)
                handles[f"{name}:0"] = graph.capture(variable.handle)
            tf.import_graph_def(definition, name="", input_map=handles)

        wrapped = tf.compat.v1.wrap_function(network, [])
        given, answer = (wrapped.graph.get_tensor_by_name(name) for name in ends)
        flat = convert_variables_to_constants_v2(wrapped.prune([given], [answer]))
    except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        raise ModelError(f"{folder.name} cannot be read as a SavedModel: {_first_line(error)}") from error
    return flat.graph.as_graph_def(), flat.inputs[0].name, flat.outputs[0].name


def _variables(folder: Path, meta: Any, network: Any) -> dict[str, Any]:
    """Values of the variables of a network by the names of their nodes, read from the folder."""
    import tensorflow as tf

    wanted = [node for node in network.node if node.op == "VarHandleOp"]
    if not wanted:
        return {}
    saver = meta.saver_def
    reading = _Closure(folder, meta.graph_def, [saver.restore_op_name, saver.filename_tensor_name], READING)
    for node in wanted:
        if node.name not in reading.nodes:
            raise ModelError(
                f"{folder.name} does not say where the variable «{node.name}» is kept; save the network anew by "
                "model.export(folder)"
            )
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(_cleaned(reading), name="")
        session.run(
            _node(saver.restore_op_name), {saver.filename_tensor_name: os.fspath(folder / "variables/variables")}
        )
        return session.run(
            {
                node.name: tf.raw_ops.ReadVariableOp(
                    resource=graph.get_tensor_by_name(f"{node.name}:0"), dtype=node.attr["dtype"].type
                )
                for node in wanted
            }
        )


def _meta_graph(folder: Path) -> Any:
    """The graph for serving in a SavedModel."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    if not path.is_file():
        raise ModelError(f"{folder.name} has no saved_model.pb; a SavedModel folder is expected: model.export(folder)")
    try:
        content = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(f"{folder.name}: saved_model.pb is no SavedModel ({error})") from error
    for meta in content.meta_graphs:
        if "serve" in meta.meta_info_def.tags:
            return meta
    tags = "; ".join(", ".join(meta.meta_info_def.tags) for meta in content.meta_graphs)
    raise ModelError(f"{folder.name} has no graph tagged «serve», only: {tags or 'none'}")


def _ends(folder: Path, meta: Any) -> tuple[str, str]:
    """Names of the input and the output tensor of the serving signature."""
    import tensorflow as tf

    if SIGNATURE not in meta.signature_def:
        known = ", ".join(sorted(name for name in meta.signature_def if not name.startswith("__")))
        raise ModelError(f"{folder.name} has no signature «{SIGNATURE}», only: {known or 'none'}")
    signature = meta.signature_def[SIGNATURE]
    found = [[*signature.inputs.values()], [*signature.outputs.values()]]
    if [len(tensors) for tensors in found] != [1, 1]:
        names = " and ".join(
            f"{kind} {', '.join(sorted(tensors))}"
            for kind, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs))
        )
        raise ModelError(f"{folder.name}: signature «{SIGNATURE}» has {names}; one of each is expected")
    shape = [dim.size for dim in found[0][0].tensor_shape.dim]
    kind = tf.dtypes.as_dtype(found[0][0].dtype).name
    if kind != "float32" or len(shape) != 4 or shape[0] != -1:
        raise ModelError(
            f"{folder.name}: signature «{SIGNATURE}» takes {kind} {shape}; float32 of any number of windows, "
            "[-1, H, W, channels], is expected"
        )
    return found[0][0].name, found[1][0].name


class _Closure:
    """What some tensors of a graph depend on: `nodes` and `functions` by name. Raises `ModelError` for other operations
    than those that are allowed."""

    def __init__(self, folder: Path, graph: Any, ends: Iterable[str], allowed: frozenset[str]) -> None:
        self._folder, self._allowed = folder, allowed
        self._library = {function.signature.name: function for function in graph.library.function}
        self.nodes: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        known = {node.name: node for node in graph.node}
        waiting = [_node(end) for end in ends]
        while waiting:
            name = waiting.pop()
            if name in self.nodes:
                continue
            if name not in known:
                raise ModelError(f"{folder.name} cannot be read as a SavedModel: it has no node «{name}»")
            self.nodes[name] = known[name]
            self._check(known[name], "")
            waiting += [_node(source) for source in known[name].input]

    def _check(self, node: Any, place: str) -> None:
        if node.op not in self._allowed:
            raise ModelError(
                f"{self._folder.name} holds the operation {node.op} («{place}{node.name}»), which is none of those "
                "that are known to do nothing but arithmetic; nothing of it was run. Save the network without it"
            )
        for value in node.attr.values():
            called = value.func.name
            if called and called not in self.functions:
                if called not in self._library:
                    raise ModelError(
                        f"{self._folder.name} cannot be read as a SavedModel: it has no function «{called}»"
                    )
                self.functions[called] = self._library[called]
                for inner in self._library[called].node_def:
                    self._check(inner, f"{called}/")


def _cleaned(closure: _Closure) -> Any:
    """Its nodes and functions as a graph for any device, without gradients and other hints of their own.

    Functions get names of their own, because TensorFlow knows those of all graphs in the process by their names.
    """
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    graph.node.extend(closure.nodes.values())
    graph.library.function.extend(closure.functions.values())
    mark = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()[:16]
    nodes: list[Any] = [*graph.node]
    for function in graph.library.function:
        function.signature.name = f"{mark}_{function.signature.name}"
        function.attr.clear()
        function.arg_attr.clear()
        nodes += function.node_def
    for node in nodes:
        node.device = ""
        for name in [name for name in node.attr if name.startswith("_")]:
            del node.attr[name]
        for value in node.attr.values():
            if value.HasField("func"):
                value.func.name = f"{mark}_{value.func.name}"
    return graph


def _node(tensor: str) -> str:
    """Name of the node of a tensor or control input."""
    return tensor.removeprefix("^").partition(":")[0]


def _in_front_of_probabilities(tensor: Any) -> Any:
    """The tensor, or the logits that a softmax or sigmoid turns into it."""
    inner = tensor
    while inner.op.type in ("Identity", "IdentityN", "Cast"):
        inner = inner.op.inputs[inner.value_index]
    return inner.op.inputs[0] if inner.op.type.lower() in ACTIVATIONS else tensor


def _layers(graph: Any, given: Any, outputs: Any) -> dict[str, Any]:
    """Tensors with a spatial grid on the way from the input to the outputs, by name, in forward order."""
    behind = _reached([given], lambda tensor: [one for user in tensor.consumers() for one in user.outputs])
    before = _reached([outputs], lambda tensor: tensor.op.inputs)
    found: dict[str, Any] = {}
    for operation in graph.get_operations():
        for tensor in operation.outputs[:1]:
            shape = tensor.shape.as_list() if tensor.shape.rank == 4 else []
            grid = len(shape) == 4 and (shape[1] or 2) * (shape[2] or 2) > 1
            on_the_way = tensor.ref() in behind and tensor.ref() in before
            if grid and on_the_way and operation.type not in ("Placeholder", "Identity"):
                found[operation.name] = tensor
    scopes = {name: name.split("/")[:-1] for name in found}
    shared = len(list(takewhile(lambda parts: len(set(parts)) == 1, zip(*scopes.values(), strict=False))))
    last: dict[tuple[str, ...], str] = {}
    for name, scope in scopes.items():
        last[tuple(scope[shared:]) or (name,)] = name
    kept = set(last.values())
    return {"/".join(name.split("/")[shared:]): tensor for name, tensor in found.items() if name in kept}


def _reached(start: Iterable[Any], follow: Callable[[Any], Iterable[Any]]) -> set[Any]:
    """References of all tensors that can be reached."""
    seen: set[Any] = set()
    waiting = list(start)
    while waiting:
        tensor = waiting.pop()
        if tensor.ref() not in seen:
            seen.add(tensor.ref())
            waiting += follow(tensor)
    return seen


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
