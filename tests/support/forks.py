"Processes that start in milliseconds, to be killed: a process that has imported the code forks for each call."

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import TracebackType

BOOT = """
import json, os, sys
exec(sys.argv[1], globals())
for line in sys.stdin:
    kind, text = json.loads(line)
    if kind == "wait":
        print(os.waitpid(text, 0)[1], flush=True)
    elif not (pid := os.fork()):
        os.dup2(2, 1)
        sys.stdin.close()
        try:
            exec(text, globals())
        except Exception:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    else:
        print(pid, flush=True)
"""


class Forks:
    "A process that has run `imports` and forks for each piece of code."

    def __init__(self, imports: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", BOOT, imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.communicate()

    def ask(self, kind: str, text: str | int) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([kind, text]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, code: str) -> int:
        "Run code in a process of its own, and return its id."
        return self.ask("start", code)

    def wait(self, pid: int) -> int:
        "Wait for the end of a process and return its exit status; negative is the signal."
        return os.waitstatus_to_exitcode(self.ask("wait", pid))

    def kill(self, pid: int) -> int:
        "Send SIGKILL to a process of this one, and wait."
        os.kill(pid, signal.SIGKILL)
        return self.wait(pid)
