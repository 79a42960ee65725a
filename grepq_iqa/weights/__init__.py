"""Model name -> verified local files. Importing this does not import torch, nor does resolving a bundled model."""

from grepq_iqa.weights.manifest import hash_files, load_manifest, manifest_path, update_manifest
from grepq_iqa.weights.resolve import FileCheck, ModelFiles, fetch_checkpoint, is_available, resolve, verify

__all__ = [
    "FileCheck",
    "ModelFiles",
    "fetch_checkpoint",
    "hash_files",
    "is_available",
    "load_manifest",
    "manifest_path",
    "resolve",
    "update_manifest",
    "verify",
]
