"""A headless Chromium to look at pages with."""

import fcntl
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

ANSWER_LIMIT_S = 30


def _pipe() -> tuple[int, int]:
    """Both ends of a pipe, neither of them with a number that Chromium uses itself."""
    ends = os.pipe()
    higher = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return higher[0], higher[1]


class Chromium:
    """A headless Chromium, driven through the pipes of its DevTools protocol."""

    def __init__(self, binary: str, profile: Path) -> None:
        commands, self._commands = _pipe()
        self._answers, answers = _pipe()
        as_it_wants = (
            f"import os, sys; os.dup2({commands}, 3); os.dup2({answers}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        )
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", as_it_wants, binary, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(commands, answers),
        )
        os.close(commands)
        os.close(answers)
        self._read = b""
        self._sent = 0
        self.complaints: list[str] = []
        self._session: dict[str, str] = {}

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command and wait for its answer; what the page complains of meanwhile is kept."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters} | self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._sent:
                assert "error" not in answer, answer
                return dict(answer["result"])
            if answer.get("method") in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}:
                said = answer["params"].get("args") or answer["params"]
                self.complaints.append(json.dumps(said)[:500])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self._answers], [], [], ANSWER_LIMIT_S)[0], "Chromium doesn't answer"
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "Chromium has ended"
            self._read += chunk
        message, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(message))

    def open(
        self, path: Path, *, width: int = 1400, scheme: str = "light", fragment: str = "", javascript: bool = True
    ) -> None:
        """Show a file in a new page."""
        self._session = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.complaints.clear()
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setScriptExecutionDisabled", value=not javascript)
        self.scheme(scheme)
        self.width(width)
        self.call("Page.navigate", url=path.as_uri() + fragment)
        while self.run("location.href !== 'about:blank' && document.readyState") != "complete":
            pass

    def scheme(self, scheme: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def width(self, width: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        text = {"Enter": "\r", " ": " "}.get(key)
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}
        fields: dict[str, Any] = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": codes[key],
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **fields, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
