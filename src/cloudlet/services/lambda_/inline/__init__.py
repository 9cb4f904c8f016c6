"""Code that stands in a template: one file, made into an archive as CloudFormation does."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

_HERE = Path(__file__).parent
_MADE = (1980, 1, 1, 0, 0, 0)  # the same code is the same archive


def zipped(source: str, runtime: str) -> bytes:
    """An archive of inline code and the module with which a custom resource answers."""
    if runtime.startswith("python"):
        files = {"index.py": source.encode(), "cfnresponse.py": (_HERE / "cfnresponse.py").read_bytes()}
    else:
        module = (_HERE / "cfn-response.js").read_bytes()
        files = {"index.js": source.encode(), "node_modules/cfn-response/index.js": module}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _MADE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return packed.getvalue()
