"""What pyproject.toml cannot say: a built package has the option files, which lie beside it in the repository."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

OPTIONS = Path('options')


class BuildWithOptions(build_py):
    """Copies ``options/`` into the package as ``option_files``; an editable installation reads ``options/`` itself."""

    def _targets(self) -> dict[Path, Path]:
        package = Path(self.build_lib, 'manet_basicsr', 'option_files')
        return {file: package / file.relative_to(OPTIONS) for file in sorted(OPTIONS.glob('*/*.yml'))}

    def run(self) -> None:
        super().run()
        for file, target in {} if self.editable_mode else self._targets().items():
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(file), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *map(str, self._targets().values())]


setup(cmdclass={'build_py': BuildWithOptions})
