"""A real browser for the tests of pages."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--dump-dom")
_FLAGS += ("--disable-background-networking", "--disable-dev-shm-usage")
_FLAGS += ("--enable-logging=stderr", "--virtual-time-budget=10000")
_PROBE = """
"use strict";
addEventListener("load", () => {
  const answer = (() => { %s })();
  const place = document.createElement("pre");
  place.id = "probe";
  place.textContent = JSON.stringify(answer);
  document.body.append(place);
});
"""


@dataclass(frozen=True)
class Browser:
    """Chromium without a window."""

    path: str

    def visit(self, page: Path, *flags: str) -> tuple[str, list[str]]:
        """Open a file.

        Returns:
            The document as it stands once all scripts have run, and the lines of the console.
        """
        profile = f"--user-data-dir={page.parent / 'profile'}"
        done = subprocess.run(
            [self.path, *_FLAGS, profile, *flags, page.as_uri()],
            capture_output=True,
            timeout=300,
            check=True,
            text=True,
        )
        return done.stdout, re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr)

    def ask(self, page: Path, script: str, *flags: str) -> tuple[Any, list[str]]:
        """Open a copy of a page with one more script, whose hash the copy's policy allows.

        Args:
            page: The page.
            script: Body of a function; what it returns comes back.
            *flags: Further flags of the browser.

        Returns:
            The answer, and the lines of the console.
        """
        probe = _PROBE % script
        digest = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
        source = page.read_text(encoding="utf-8")
        assert source.count("script-src 'sha256-") == 1
        source = source.replace("script-src ", f"script-src 'sha256-{digest}' ")
        copy = page.with_name(f"probed-{page.name}")
        copy.write_text(source.replace("</body>", f"<script>{probe}</script></body>"), "utf-8")
        document, console = self.visit(copy, *flags)
        found = re.search(r'<pre id="probe">(.*?)</pre>', document, re.DOTALL)
        assert found, console
        return json.loads(html.unescape(found[1])), console


@pytest.fixture(scope="session")
def browser() -> Browser:
    """Debian's chromium; tests that need it are skipped without."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine")
    return Browser(path)
