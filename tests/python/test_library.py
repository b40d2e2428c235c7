# SPDX-License-Identifier: BSD-2-Clause
"""How the package finds libcarso, and what it says where it does not."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "bindings" / "python"


class Finding(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.library = os.environ["CARSO_LIBRARY"]

    def run_python(self, script, package=PACKAGE, **variables):
        environment = {name: value for name, value in os.environ.items() if name != "CARSO_LIBRARY"}
        environment.update(variables, PYTHONPATH=str(package))
        return subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )

    def test_by_the_variable(self):
        result = self.run_python("import carso; print(carso.version())", CARSO_LIBRARY=self.library)
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_pytorch_is_not_imported_until_it_is_needed(self):
        script = "\n".join(
            (
                "import sys, carso",
                "assert 'torch' not in sys.modules",
                "sys.modules['torch'] = None",
                "for use in (lambda: carso.convert(None, (3, 32, 32)), lambda: __import__('carso.torch')):",
                "    try:",
                "        use()",
                "    except ImportError as error:",
                "        print(error)",
            )
        )
        result = self.run_python(script, CARSO_LIBRARY=self.library)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        lines = result.stdout.splitlines()
        self.assertEqual([line.split(" needs ")[0] for line in lines], ["carso.convert", "carso.torch"])
        self.assertTrue(all("PyTorch" in line for line in lines))

    def test_the_variable_decides_alone(self):
        result = self.run_python("import carso", CARSO_LIBRARY=str(self.folder / "absent.so"))
        self.assertIn("ImportError: libcarso was not found", result.stderr)
        self.assertIn("absent.so", result.stderr)
        self.assertIn("CARSO_LIBRARY", result.stderr.splitlines()[-1])

    def test_in_the_build_folder_beside(self):
        package = self.folder / "bindings" / "python"
        shutil.copytree(PACKAGE / "carso", package / "carso", ignore=shutil.ignore_patterns("__pycache__"))
        build = self.folder / "build" / "include"
        build.mkdir(parents=True)
        (build / "libcarso.so.0").symlink_to(self.library)
        result = self.run_python("from carso._library import library; print(library._name)", package)
        self.assertEqual(result.stdout.strip(), str(build.resolve() / "libcarso.so.0"), result.stderr)

    def test_through_the_loader(self):
        package = self.folder / "package"
        shutil.copytree(PACKAGE / "carso", package / "carso", ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "libcarso.so.0").symlink_to(self.library)
        script = "from carso._library import library; print(library._name)"
        result = self.run_python(script, package, LD_LIBRARY_PATH=str(self.folder))
        self.assertEqual(result.stdout.strip(), "libcarso.so.0", result.stderr)

    def test_not_what_is_another_library(self):
        result = self.run_python("import carso", CARSO_LIBRARY="libm.so.6")
        self.assertIn("ImportError: libm.so.6 is not libcarso", result.stderr)

    def test_not_what_is_too_old(self):
        package = self.folder / "package"
        shutil.copytree(PACKAGE / "carso", package / "carso", ignore=shutil.ignore_patterns("__pycache__"))
        release = package / "carso" / "_release.py"
        release.write_text(release.read_text().replace("ABI_MINOR = 1", "ABI_MINOR = 2"))
        result = self.run_python("import carso", package, CARSO_LIBRARY=self.library)
        self.assertIn("this package needs 0.2", result.stderr)


if __name__ == "__main__":
    sys.exit(unittest.main())
