"""Install the packages of uv.lock into the image, and cut what no job needs."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from pathlib import Path

ENVIRONMENT = Path("/opt/tfcluster")
CPU_REQUIREMENTS = "deploy/image/tensorflow-cpu.txt"

#: What is cut from site-packages, and why no job misses it. Licences and metadata stay.
CUT = {
    "clang": "libclang, which TensorFlow names and nowhere imports",
    "nvidia/**/*.a": "static libraries, for compilers",
    "nvidia/*/lib/libcusolverMg.so*": "solvers over several GPUs, which TensorFlow does not call",
    "nvidia/*/lib/libnvrtc*.alt.so*": "a second copy of NVIDIA's run-time compiler",
    "numpy/**/tests": "tests",
    "pyarrow/include": "headers, for compilers",
    "pyarrow/tests": "tests",
    "ray/jars": "Ray for Java",
    "tensorflow/include": "headers, for compilers",
}
#: What uv leaves in the folder of an environment.
UV_FILES = (".gitignore", ".lock", "CACHEDIR.TAG")
#: Libraries whose tables of local symbols only a debugger of C++ reads. Those that a wheel's tools have patched are not
#: among them: strip breaks some.
STRIPPED = ("tensorflow/**/*.so", "tensorflow/*.so.*", "xprof/**/*.so")


def replaces_tensorflow(extras: Iterable[str], gpu: bool) -> bool:
    """Whether tensorflow-cpu takes the place of tensorflow, of whose download more than half is for GPUs.

    Not with tensorflow-io, which wants an older TensorFlow than the one in `CPU_REQUIREMENTS`.
    """
    return not gpu and "tensorflow" in extras and "tensorflow-io" not in extras


def sync_command(extras: Iterable[str], gpu: bool) -> list[str]:
    """The uv command that installs what uv.lock has for `extras`, without the project itself."""
    command = ["uv", "sync", "--frozen", "--no-default-groups", "--no-install-project"]
    command += [f"--extra={extra}" for extra in (*extras, *(["gpu"] if gpu else []))]
    return command + (["--no-install-package=tensorflow"] if replaces_tensorflow(extras, gpu) else [])


def install(extras: list[str], gpu: bool) -> None:
    """Fill `ENVIRONMENT`."""
    subprocess.run(sync_command(extras, gpu), check=True)
    if replaces_tensorflow(extras, gpu):
        python = str(ENVIRONMENT / "bin" / "python")
        command = ["uv", "pip", "install", "--no-deps", "--require-hashes", "--python", python, "-r", CPU_REQUIREMENTS]
        subprocess.run(command, check=True)


def stand_in(packages: Path) -> None:
    """Tell pip, uv and scanners that `tensorflow` is there, where tensorflow-cpu provides it.

    Without that, installing anything that needs tensorflow would put the large one over it.
    """
    (provider,) = packages.glob("tensorflow_cpu-*.dist-info")
    version = HeaderParser().parsestr((provider / "METADATA").read_text())["Version"]
    folder = packages / f"tensorflow-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: tensorflow\nVersion: {version}\n"
        f"Summary: Provided by tensorflow-cpu\nRequires-Dist: tensorflow-cpu=={version}\n"
    )
    (folder / "INSTALLER").write_text("ray-tfcluster\n")
    (folder / "RECORD").write_text("".join(f"{folder.name}/{name},,\n" for name in ("INSTALLER", "METADATA", "RECORD")))


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def cut(packages: Path) -> Iterator[tuple[str, int]]:
    """Remove what `CUT` names; each pattern with the bytes that it freed."""
    for pattern in CUT:
        freed = 0
        for path in list(packages.glob(pattern)):
            freed += size(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield pattern, freed


def strip(packages: Path) -> int:
    """Strip the libraries that `STRIPPED` names; the bytes freed."""
    files = [file for pattern in STRIPPED for file in packages.glob(pattern) if not file.is_symlink()]
    before = sum(map(size, files))
    for file in files:
        subprocess.run(["strip", "--strip-unneeded", str(file)], check=True)
    return before - sum(map(size, files))


def main(arguments: list[str]) -> None:
    """Install, cut, and say what was cut."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", default="", help="anything but an empty text: with CUDA's libraries")
    parser.add_argument("extras", nargs="*")
    options = parser.parse_args(arguments)
    install(options.extras, bool(options.gpu))
    for name in UV_FILES:
        (ENVIRONMENT / name).unlink(missing_ok=True)
    (packages,) = (ENVIRONMENT / "lib").glob("python*/site-packages")
    if replaces_tensorflow(options.extras, bool(options.gpu)):
        stand_in(packages)
    for pattern, freed in (*cut(packages), ("symbols of C++", strip(packages))):
        print(f"cut {freed / 1e6:7.1f} MB  {pattern}")
    print(f"    {size(ENVIRONMENT) / 1e6:7.1f} MB  left")


if __name__ == "__main__":
    main(sys.argv[1:])
