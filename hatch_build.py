"""Compiles ffoadapt/_kernel/c when a wheel or an editable install is built.

Without a compiler the package is built all the same: it then differentiates dense programs in
Python, with the same results, at a lower speed, and `ffoadapt --version` says so. With
FFOADAPT_REQUIRE_KERNEL=1 that is an error instead, as it should be where wheels are made.

What a package index shows is README.md; where FFOADAPT_REPOSITORY names the repository
(https://host/owner/name), its links lead there, and so do the project's.
"""

from __future__ import annotations

import os
import re
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

SOURCES = "ffoadapt/_kernel/c"
MODULE = "ffoadapt._kernel._compiled"


class CompiledKernel(BuildHookInterface):
    """See https://hatch.pypa.io/latest/plugins/build-hook/reference."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext

        root = Path(self.root)
        # The stable interface of Python 3.11: one build serves all later versions.
        sources = sorted(map(str, (root / SOURCES).glob("*.c")))
        extension = Extension(MODULE, sources, py_limited_api=True, optional=True)
        command = build_ext(Distribution({"ext_modules": [extension]}))
        with tempfile.TemporaryDirectory() as temporary:
            command.build_lib, command.build_temp = str(root), temporary
            command.ensure_finalized()
            built = Path(command.get_ext_fullpath(MODULE))
            built.unlink(missing_ok=True)  # of another state of the source
            command.run()
        if not built.exists():
            if os.environ.get("FFOADAPT_REQUIRE_KERNEL"):
                raise RuntimeError(
                    f"{SOURCES} was not compiled: see above, or install a C compiler"
                )
            self.app.display_warning(
                f"{SOURCES} WAS NOT COMPILED (no C compiler?). Going on without: the same results, "
                "dense programs at a lower speed"
            )
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        build_data["artifacts"].append(built.relative_to(root).as_posix())


class Links(MetadataHookInterface):
    """See https://hatch.pypa.io/latest/plugins/metadata-hook/reference."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = os.environ.get("FFOADAPT_REPOSITORY", "").rstrip("/")
        if repository:
            text = re.sub(r"\]\((?!https?://|#)", f"]({repository}/blob/main/", text)
            metadata["urls"] = {
                "Repository": repository,
                "Documentation": f"{repository}/blob/main/docs/index.md",
                "Changelog": f"{repository}/blob/main/CHANGELOG.md",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
