"""What is checked of a SavedModel before TensorFlow loads it: that it reaches for nothing outside of its folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from egt_tf.errors import ExportError
from egt_tf.serving.contract import GRAPH_FILE

PYTHON_OPERATIONS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
# They read or write files of the model's choice, load code, or reach other machines.
FILE_OPERATIONS = frozenset(
    {
        "CacheDataset",
        "CacheDatasetV2",
        "CreateSummaryDbWriter",
        "CreateSummaryFileWriter",
        "DataServiceDataset",
        "DataServiceDatasetV2",
        "DataServiceDatasetV3",
        "DataServiceDatasetV4",
        "DebugIdentity",
        "DebugIdentityV2",
        "DebugIdentityV3",
        "FixedLengthRecordDataset",
        "FixedLengthRecordDatasetV2",
        "FixedLengthRecordReader",
        "FixedLengthRecordReaderV2",
        "GeneratorDataset",
        "ImmutableConst",
        "InitializeTableFromTextFile",
        "InitializeTableFromTextFileV2",
        "LMDBDataset",
        "LMDBReader",
        "LoadDataset",
        "MatchingFiles",
        "MatchingFilesDataset",
        "PrintV2",
        "ReadFile",
        "RemoteCall",
        "Restore",
        "RestoreSlice",
        "RpcCall",
        "RpcClient",
        "RpcServer",
        "Save",
        "SaveDataset",
        "SaveDatasetV2",
        "SaveSlices",
        "SnapshotDataset",
        "SnapshotDatasetV2",
        "SqlDataset",
        "TFRecordDataset",
        "TFRecordDatasetV2",
        "TFRecordReader",
        "TFRecordReaderV2",
        "TextLineDataset",
        "TextLineReader",
        "TextLineReaderV2",
        "WholeFileReader",
        "WholeFileReaderV2",
        "WriteFile",
    }
)
# Every SavedModel has them, to keep its variables; nothing else may reach them.
SAVER_OPERATIONS = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2"})
_ASSETS = "saved_model_assets"
# Other forms of the graph, which TensorFlow may read in place of the one that is checked.
_OTHER_GRAPHS = ("saved_model.cpb", "saved_model.pbtxt")


def check_files(folder: Path) -> None:
    """Checks that a version has no file outside of its folder.

    Args:
        folder: of the version.

    Raises:
        ExportError: it is a link to a folder elsewhere, or holds a link that leads out of it or a second graph.
    """
    inside = folder.resolve()
    if folder.is_symlink() and folder.name.isdecimal() and inside.parent != folder.parent.resolve():
        raise ExportError(f"a version must lie in its model's folder. Received: {folder}, a link to {inside}")
    second = [name for name in _OTHER_GRAPHS if (folder / name).exists()]
    if second:
        raise ExportError(f"a version must have one graph, {GRAPH_FILE}. Received: {folder} with {second[0]} beside it")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise ExportError(
                f"the files of a model must lie in its folder. Received: {path}, a link to {path.resolve()}"
            )


def check_graph(folder: Path) -> None:
    """Checks the graph of a SavedModel before it is loaded.

    Raises:
        ExportError: its file is damaged; an operation calls Python, reads or writes files or reaches other machines; or
            the name of an asset leads out of the folder.
    """
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString((folder / GRAPH_FILE).read_bytes())
    except DecodeError as error:
        raise ExportError(
            f"{folder / GRAPH_FILE} must be the graph of a SavedModel. Received: a damaged file"
        ) from error
    if not message.meta_graphs:
        raise ExportError(f"{folder / GRAPH_FILE} must be the graph of a SavedModel. Received: a file without a graph")
    used = operations(message)
    saving = {op for graph in message.meta_graphs for op in _operations_beside_saver(graph)} & SAVER_OPERATIONS
    for what, found in (
        ("without Python functions", used & PYTHON_OPERATIONS),
        ("that reads and writes no files", (used & FILE_OPERATIONS) | saving),
    ):
        if found:
            raise ExportError(
                f"{folder} must be a graph {what}. Received: operations {', '.join(sorted(found))}; a "
                "model of this package has none"
            )
    for graph in message.meta_graphs:
        _check_assets(folder, graph)


def operations(message: saved_model_pb2.SavedModel) -> set[str]:
    """The kinds of operations in all graphs and functions of a SavedModel."""
    return {node.op for graph in message.meta_graphs for node in graph_nodes(graph.graph_def)}


def graph_nodes(graph: graph_pb2.GraphDef) -> Iterator[node_def_pb2.NodeDef]:
    """Every operation of a graph, those of its functions too."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _operations_beside_saver(graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    """What can run without being asked to save or restore: the rest of the graph, and all functions it can call."""
    saver = graph.saver_def
    tensors = (saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name)
    own = {name.partition(":")[0] for name in tensors}
    nodes = [node for node in graph.graph_def.node if node.name not in own]
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    found = {node.op for node in nodes}
    waiting, seen = _called(nodes) | set(graph.object_graph_def.concrete_functions), set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        body = functions.get(name, ())
        found |= {node.op for node in body}
        waiting |= _called(body) - seen
    return found


def _called(nodes: Iterable[node_def_pb2.NodeDef]) -> set[str]:
    """Names of the functions that nodes call; an operation may itself be named as a function."""
    values = [value for node in nodes for value in node.attr.values()]
    return (
        {node.op for node in nodes}
        | {value.func.name for value in values if value.func.name}
        | {function.name for value in values for function in value.list.func}
    )


def _check_assets(folder: Path, graph: meta_graph_pb2.MetaGraphDef) -> None:
    listed = list(graph.asset_file_def)
    for packed in graph.collection_def[_ASSETS].any_list.value if _ASSETS in graph.collection_def else ():
        asset = meta_graph_pb2.AssetFileDef()
        packed.Unpack(asset)
        listed.append(asset)
    inside = (folder / "assets").resolve()
    for asset in listed:
        if not (inside / asset.filename).resolve().is_relative_to(inside):
            raise ExportError(
                f"the assets of a model must lie in its folder. Received: {folder} with the asset {asset.filename!r}"
            )
