"""Checkpoints: everything needed to go on bit by bit, in files that cannot execute anything.

    checkpoints/00512000/   model.safetensors ema.safetensors training.safetensors state.json manifest.json

The folder's name is the number of examples drawn. It is written aside, synced and renamed; the manifest
holds the size and SHA-256 of every other file and a digest of itself, so that damage to any byte is found
out and the checkpoint before is used, with a warning. The last two are kept. A training that will never
go on can forget its optimisers, which are most of a checkpoint.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.optim import Optimizer

from bestiary.errors import RunError
from bestiary.models.base import Model
from bestiary.training.files import write_json, written_aside
from bestiary.training.loop import Training

# Format 1 had no digest of the manifest itself.
FORMAT = 2
KEPT = 2
_TRAINING = "training.safetensors"
_FILES = ("model.safetensors", "ema.safetensors", _TRAINING, "state.json")


class DamagedCheckpointError(RunError):
    """A checkpoint whose files are not what its manifest says."""


def save_training(training: Training, checkpoints: Path) -> Path:
    """Write a checkpoint of a training and forget all but the last two.

    Raises:
        DivergedError: a weight is not finite; nothing is written.
        OSError: the folder cannot be written; what was there stays.
    """
    training.check_finite()
    tensors, numbers = _optimizer_state(training)
    state = {
        "clock": {**asdict(training.clock)},
        "optimizers": numbers,
        "flops_per_update": training.flops_per_update,
        "largest_first_cost": training.largest_first_cost,
        "terms": {n: [float(total).hex(), count] for n, (total, count) in training.terms.items()},
    }
    folder = checkpoints / f"{training.clock.examples:08d}"
    return _save(folder, training.model, training.averages.state(), tensors, state)


def save_model(model: Model, checkpoints: Path, clock: Mapping[str, Any]) -> Path:
    """Write a checkpoint of a model that was solved, not trained."""
    return _save(checkpoints / f"{clock['examples']:08d}", model, {}, {}, {"clock": dict(clock)})


def forget_optimizers(checkpoints: Path) -> None:
    """Keep of a training that will never go on the newest weights alone; nothing where there are none."""
    found = newest(checkpoints)
    if found is None:
        return
    folder, _ = found
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    content = {"format": FORMAT, "files": {k: v for k, v in manifest["files"].items() if k != _TRAINING}}
    # The manifest first: at every instant the checkpoint is what its manifest says.
    write_json(folder / "manifest.json", {**content, "sha256": _digest(content)})
    (folder / _TRAINING).unlink(missing_ok=True)
    for other in _folders(checkpoints):
        if other != folder:
            shutil.rmtree(other)


def load_training(training: Training, checkpoints: Path) -> bool:
    """Put a training where its newest sound checkpoint left it; False where there is none.

    Raises:
        RunError: the optimisers were forgotten, or all checkpoints are damaged.
    """
    found = training.runtime.ranks.first(lambda: newest(checkpoints))
    if found is None:
        return False
    folder, state = found
    if not (folder / _TRAINING).exists():
        raise RunError(f"{folder}: has weights, but no optimisers any more: the training cannot go on")
    load_weights(training.model, folder, state)
    tensors = load_file(folder / _TRAINING)
    for name, optimizer in training.optimizers.items():
        _load_optimizer(name, optimizer, tensors, state["optimizers"])
    training.averages.load(load_file(folder / "ema.safetensors"))
    for field, value in state["clock"].items():
        setattr(training.clock, field, value)
    training.flops_per_update = state["flops_per_update"]
    training.largest_first_cost = state["largest_first_cost"]
    terms = state.get("terms", {})  # not in format 1
    training.terms = {name: (float.fromhex(t), count) for name, (t, count) in terms.items()}
    return True


def _load_optimizer(
    player: str, optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    restored: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        owner, index, name = key.rsplit("/", 2)
        if owner == player:
            parameter = parameters[int(index)]
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # fused optimisers walk through memory: moments must be laid out like their parameter
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            restored.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": restored, "param_groups": groups})


def load_weights(model: Model, folder: Path, state: Mapping[str, Any], *, averaged: bool = False) -> None:
    """Fill a model with a checkpoint's weights, averaged ones where asked for and there are any.

    Raises:
        RunError: the weights are not this model's.
    """
    weights: dict[str, Any] = dict(load_file(folder / "model.safetensors"))
    if averaged:
        weights |= load_file(folder / "ema.safetensors")
    weights |= state.get("extra", {})
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        line = " ".join(str(error).split())
        raise RunError(f"{folder}: the weights do not fit {type(model).__name__}: {line}") from error


def newest(checkpoints: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is sound, and its state; a damaged one is passed over with a warning.

    Raises:
        RunError: there are checkpoints, and all are damaged.
    """
    folders = _folders(checkpoints)[::-1]
    for folder in folders:
        try:
            return folder, _verified_state(folder)
        except DamagedCheckpointError as damage:
            problem = damage
            if folder != folders[-1]:
                warnings.warn(f"{damage}; using the checkpoint before it", stacklevel=2)
    if folders:
        raise RunError(f"{problem}; no other checkpoint is left: train again into another folder")
    return None


def _save(
    folder: Path,
    model: Model,
    averages: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    state: dict[str, Any],
) -> Path:
    weights = model.state_dict()
    extra = {name: value for name, value in weights.items() if not isinstance(value, Tensor)}
    with written_aside(folder) as aside:
        for name, tensors in (("model", weights), ("ema", averages), ("training", training)):
            plain = {key: _plain(t) for key, t in tensors.items() if key not in extra}
            (aside / f"{name}.safetensors").write_bytes(save(plain))  # `save_file` hides a full disk
        write_json(aside / "state.json", {"format": FORMAT, "extra": extra, **state})
        manifest = {name: _fingerprint(aside / name) for name in _FILES}
        content = {"format": FORMAT, "files": manifest}
        write_json(aside / "manifest.json", {**content, "sha256": _digest(content)})
    for old in _folders(folder.parent)[:-KEPT]:
        shutil.rmtree(old)
    return folder


def _folders(checkpoints: Path) -> list[Path]:
    return sorted(
        (p for p in checkpoints.glob("*") if p.name.isdigit() and p.is_dir()), key=lambda p: int(p.name)
    )


def _plain(tensor: Tensor) -> Tensor:
    # safetensors refuses tensors that share memory or are not laid out row by row
    return tensor.detach().to("cpu", copy=True).contiguous()


def _optimizer_state(training: Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for player, optimizer in training.optimizers.items():
        for index, entries in optimizer.state_dict()["state"].items():
            for entry, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"{player}/{index}/{entry}"] = value
                else:
                    numbers[f"{player}/{index}/{entry}"] = value
    return tensors, numbers


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _verified_state(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        digest = manifest.pop("sha256", None)
        if digest != _digest(manifest) and (digest, manifest["format"]) != (None, 1):
            raise DamagedCheckpointError(f"{folder / 'manifest.json'}: damaged (its digest is another)")
        if manifest["format"] > FORMAT:
            raise RunError(
                f"{folder}: format {manifest['format']} was written by a newer bestiary, wanted {FORMAT}"
                " or older: update the package"
            )
        for name in _FILES:
            if name == _TRAINING and name not in manifest["files"]:
                continue  # forgotten on purpose
            if _fingerprint(folder / name) != manifest["files"][name]:
                raise DamagedCheckpointError(f"{folder / name}: damaged (it is not what the manifest says)")
        state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return state
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        detail = " ".join(str(error).split())
        raise DamagedCheckpointError(f"{folder}: damaged ({type(error).__name__}: {detail})") from error
