"""The verb `app`: opens the workbench on a dataset folder, on this machine only unless a token is set."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path

import click

from curation.errors import CurationError, needs

PORT = 8501


@click.command("app")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=True))
@click.option("--port", type=click.IntRange(1, 65535), help=f"Port to listen on [default: {PORT}, or the next free one].")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on. Another needs --token.")
@click.option("--token", envvar="CURATION_APP_TOKEN", help="Secret that the browser must give (at least 12 characters).")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def app(folder: Path, port: int | None, host: str, token: str | None, no_browser: bool) -> None:
    """Open the workbench on a dataset FOLDER in the browser."""
    needs("streamlit", "app")
    if folder.is_file():
        raise CurationError(f"{folder} is a file, the workbench opens a dataset folder",
                            f"curation import {folder} --to my-set, then curation app my-set")
    check_host(host, token)
    port = free_port(host, port)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)       # so that the server never outlives this process
    process = subprocess.Popen(streamlit_argv(host, port), env=environment(folder, token))
    url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else f'[{host}]' if ':' in host else host}:{port}"
    try:
        wait_until_up(url, process)
        click.echo(f"The workbench on {folder} is at {url} (Ctrl-C ends it)")
        sys.stdout.flush()
        if not no_browser:
            webbrowser.open(url)
        code = process.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        end(process)
    if code not in (0, -signal.SIGINT, -signal.SIGTERM):
        raise SystemExit(3)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def check_host(host: str, token: str | None) -> None:
    """Raise CurationError when `host` can be reached from other machines and no good token guards it."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if token is not None and len(token) < 12:
        raise CurationError(f"--token has {len(token)} characters, at least 12 are needed",
                            "python -c 'import secrets; print(secrets.token_urlsafe())' makes one")
    if not loopback and not token:
        raise CurationError(f"--host {host} can be reached from other machines and no --token is set",
                            "add --token SECRET, or leave --host out to stay on 127.0.0.1")


def free_port(host: str, port: int | None) -> int:
    """Return `port`, or the first free one from 8501 when it is None. Raises CurationError when `port` is taken."""
    for candidate in [port] if port else range(PORT, PORT + 50):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, candidate))
                return candidate
            except PermissionError:
                raise CurationError(f"--port {candidate}: this user may not listen there", "name a port above 1023") from None
            except socket.gaierror as e:
                raise CurationError(f"--host {host}: {e.strerror}", "127.0.0.1 is this machine") from None
            except OSError as e:
                if port or e.errno not in (98, 48, 10048):
                    raise CurationError(f"{host}:{candidate} cannot be listened on ({e.strerror})",
                                        "name another --port") from None
    raise CurationError(f"no port from {PORT} to {PORT + 49} is free", "name one with --port")


def streamlit_argv(host: str, port: int) -> list[str]:
    """Return the command that serves the workbench."""
    main = Path(__file__).with_name("main.py")
    return [sys.executable, "-m", "streamlit", "run", str(main), "--server.address", host, "--server.port", str(port),
            "--server.headless", "true", "--server.fileWatcherType", "none", "--browser.gatherUsageStats", "false",
            "--client.toolbarMode", "minimal", "--logger.hideWelcomeMessage", "true"]


def environment(folder: Path, token: str | None) -> dict[str, str]:
    """Return the environment of the server: where the folder is, and the token if there is one."""
    env = {k: v for k, v in os.environ.items() if k != "CURATION_APP_TOKEN"}
    env["CURATION_FOLDER"] = str(folder)      # as given: the commands that the pages show then read as the user types
    if token:
        env["CURATION_APP_TOKEN"] = token
    return env


def wait_until_up(url: str, process: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
    """Return when the server answers. Raises CurationError when it ends or stays silent for `seconds`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CurationError(f"the server ended at once with status {process.returncode}", "its message is above")
        try:
            with opener.open(f"{url}/_stcore/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise CurationError(f"{url} does not answer after {seconds:.0f} s", "try another --port")


def end(process: subprocess.Popen[bytes]) -> None:
    """End the server, gently first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
