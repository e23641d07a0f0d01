import subprocess
import sys

import pytest

from cellseg_mm.utils import UserError, locked

HOLD = """
import sys
from pathlib import Path
from cellseg_mm.utils import locked
with locked(Path(sys.argv[1])):
    print('held', flush=True)
    input()
"""


def test_one_process_at_a_time_holds_a_lock(tmp_path):
    path = tmp_path / 'lock'
    holder = subprocess.Popen([sys.executable, '-c', HOLD, path], stdin=-1, stdout=-1, text=True)
    assert any(line == 'held\n' for line in holder.stdout)
    with pytest.raises(UserError, match='another one'), locked(path, busy='another one'):
        pass
    holder.communicate('\n')
    with locked(path, busy='another one'), pytest.raises(UserError), locked(path, busy='this one'):
        pass
