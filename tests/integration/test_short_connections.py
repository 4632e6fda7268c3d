"""An application that connects to another Redis for a moment in each request."""

import socket
import threading

from tests.support.project import SETTINGS, Project

# `_socket`: like libpq and uvloop, it bypasses Python's sockets.
APPLICATION = """
import _socket
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    if scope["path"] == "/cached":
        connecting = _socket.socket()
        connecting.connect(("127.0.0.1", PORT))
        await asyncio.sleep(0.3)
        connecting.close()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""
SUITE = """
import httpx

def test_cached(api_url, measure):
    with httpx.Client(base_url=api_url) as client:
        for timer in measure(samples=7, warmup=0):
            with timer:
                client.get("/cached")
"""


def test_short_connections_are_seen_in_counting_rounds(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    with listening.accept()[0] as connection:
                        connection.settimeout(1)
                        if connection.recv(64):
                            connection.sendall(b"+PONG\r\n")
                except TimeoutError:
                    continue
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        port = str(listening.getsockname()[1])
        (project.root / "shop.py").write_text(APPLICATION.replace("PORT", port))
        project.write("settings.toml", f'{SETTINGS}\n[app]\nasgi = "shop:app"\n')
        project.write("test_suite.py", SUITE)
        # Named, so that it is recognised even if it answers late.
        (project.root / ".env").write_text(f"OTHER_URL=redis://127.0.0.1:{port}\n")

        done = project.run("ci")

        listening.shutdown(socket.SHUT_RDWR)
    assert done.code == 3, done.output
    assert "app connects to a Redis" in done.output
