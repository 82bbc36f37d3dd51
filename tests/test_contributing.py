"""The walks of CONTRIBUTING.md: their code, as it stands there, passes the tests that stand beside it."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest
from basicsr.utils.registry import ARCH_REGISTRY

from manet_basicsr.degradation import FIELD_TYPES
from manet_basicsr.evaluation import methods
from tests import shortened

TEXT = (shortened.ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
FILES = re.findall(r'^```python\n# (\S+)\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)
WALKS = list(zip(FILES[::2], FILES[1::2], strict=True))


@pytest.fixture
def images(photos: Path, tmp_path: Path) -> Path:
    """A folder with a small photograph."""
    folder = tmp_path / 'images'
    folder.mkdir()
    photo = cv2.imread(str(photos / 'chelsea.png'))
    cv2.imwrite(str(folder / 'chelsea.png'), photo[:96, :112])
    return folder


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries that forget afterwards what a walk registers."""
    for registry, name in ((FIELD_TYPES, 'box'), (ARCH_REGISTRY._obj_map, 'OneLayerNet')):
        monkeypatch.setitem(registry, name, None)  # what was not there before is removed at the end
        registry.pop(name)


@pytest.mark.parametrize(('code', 'test'), WALKS, ids=[code[0] for code, _ in WALKS])
@pytest.mark.usefixtures('registries')
def test_the_code_of_a_walk_passes_its_tests(
    code: tuple[str, str], test: tuple[str, str], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, text = code
    module = ModuleType(file.removesuffix('.py').replace('/', '.'))
    if module.__name__ not in sys.modules:  # a dataclass looks up its module
        monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, file, 'exec'), vars(module))
    if module.__name__ == methods.__name__:
        monkeypatch.setattr(methods, 'Nearest', vars(module)['Nearest'], raising=False)
    names: dict[str, Any] = {}
    exec(compile(test[1], test[0], 'exec'), names)
    tests = [value for name, value in names.items() if name.startswith('test_')]
    assert tests
    fixtures = {'images': images, 'tmp_path': tmp_path}
    for function in tests:
        function(**{name: fixtures[name] for name in inspect.signature(function).parameters})


def test_every_file_that_a_walk_names_is_there_or_made_by_it() -> None:
    named = set(re.findall(r'`((?:manet_basicsr|options|scripts|tests|docs)/[\w/.]+\.\w+)`', TEXT))
    made = {file for file, _ in FILES}
    assert len(named) >= 10
    assert all((shortened.ROOT / file).exists() for file in named - made)
