"""The product as users have it: a wheel, built and byte-compiled into an environment of its own."""

import sys
import sysconfig
from pathlib import Path

from tests.netns.harness import CHECKOUT, run


def install(folder: Path) -> Path:
    """Install a fresh wheel beside this environment's dependencies; the folder of its commands."""
    environment, wheels = folder / "environment", folder / "wheels"
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", f"--wheel-dir={wheels}", str(CHECKOUT)]
    run(sys.executable, "-m", "pip", *build)
    run(sys.executable, "-m", "venv", str(environment))
    python = environment / "bin" / "python"
    (wheel,) = wheels.glob("*.whl")
    run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--compile", str(wheel))
    # The dependencies are those of this environment, byte-compiled already when they were installed.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin"
