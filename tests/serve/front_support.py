"""Builds the native front of `indifast-server`, and examines what it passes on to Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import native
from tests.support.signals import in_mask

HOME = Path(__file__).resolve().parents[2]
FLAGS = "-Wall -Wextra -Wconversion -Wshadow -Werror"


def build(folder: Path, **variables: str) -> Path:
    """Build `indifast-server` as setup.py does, but with warnings of the compiler as errors."""
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(folder / "build")]
    environment = {**os.environ, "INDIFAST_EXTENSIONS": "later", "CFLAGS": FLAGS, **variables}
    subprocess.run([*command, "build_scripts", "--build-dir", str(folder)], cwd=HOME, env=environment, check=True)
    return folder / "indifast-server"


# Takes the place of the interpreter, and reports what it is given as lines NAME=VALUE.
STUB = r"""
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static void copy(const char *path, const char *only)
{
    char line[4096];
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, only, strlen(only)))
            printf("%s%s", *only ? "" : "comm=", line);
    if (file)
        fclose(file);
}

static void report_socket(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
        struct sockaddr_un local;
    } a;
    char text[200] = "";
    int listens = 0, only = 0, again = 0;
    socklen_t length = sizeof a, size = sizeof listens;
    if (getsockname(fd, &a.any, &length))
        return;
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
    getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &again, &size);
    getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &size);
    if (a.any.sa_family == AF_INET)
        printf("socket=%s %d", inet_ntop(AF_INET, &a.ipv4.sin_addr, text, sizeof text), ntohs(a.ipv4.sin_port));
    else if (a.any.sa_family == AF_INET6)
        printf("socket=%s %d", inet_ntop(AF_INET6, &a.ipv6.sin6_addr, text, sizeof text), ntohs(a.ipv6.sin6_port));
    else {
        printf("socket=@");
        fwrite(a.local.sun_path + 1, length - offsetof(struct sockaddr_un, sun_path) - 1, 1, stdout);
    }
    printf("%s", a.any.sa_family == AF_INET6 && !only ? " not only IPv6" : "");
    printf("%s", a.any.sa_family != AF_UNIX && !again ? " not just after another server" : "");
    printf("%s\n", listens ? "" : " does not listen");
}

int main(int argc, char **argv)
{
    const char *front = getenv("INDIFAST_FRONT");
    printf("front=%s\n", front ? front : "");
    for (int i = 0; i < argc; i++)
        printf("word=%s\n", argv[i]);
    copy("/proc/self/comm", "");
    copy("/proc/self/status", "SigBlk:");
    copy("/proc/self/status", "SigIgn:");
    for (int fd = 3; fd < 100; fd++) {
        struct stat found;
        if (fstat(fd, &found))
            continue;
        printf("open=%d\n", fd);
        if (S_ISSOCK(found.st_mode))
            report_socket(fd);
        else if (S_ISFIFO(found.st_mode))
            printf("fifo=%d\n", fd);
    }
    return 0;
}
"""


def compile_c(program: Path, text: str) -> None:
    """Compile a program in C."""
    source = program.with_suffix(".c")
    source.write_text(text)
    native.compile_c(source, program, "-O2", counted=False)


class Report:
    """What the stub reports of one start."""

    def __init__(self, output: str) -> None:
        self.lines = output.splitlines()
        self.front = dict(word.split("=", 1) for word in self.all("front")[0].split())

    def all(self, name: str) -> list[str]:
        return [line.partition("=")[2] for line in self.lines if line.startswith(f"{name}=")]

    def mask(self, name: str) -> set[int]:
        """Return the numbers of the signals in a line of /proc/self/status."""
        (line,) = (line for line in self.lines if line.startswith(f"{name}:"))
        return in_mask(line.split()[1])


class Stubbed:
    """The front in its own folder, where it starts the stub."""

    def __init__(self, program: Path, folder: Path, *, shebang: str = "#!{stub}\n") -> None:
        self.folder = folder
        self.stub = folder / "python"
        self.program = folder / "indifast-server"
        shutil.copy(program, self.program)
        compile_c(self.stub, STUB)
        (folder / "indifast").write_text(shebang.format(stub=self.stub))

    def start(
        self, *words: str, program: Path | None = None, env: Mapping[str, str] | None = None, **keywords
    ) -> Report:
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.folder), **(env or {})}
        environment.pop("INDIFAST_FRONT", None)
        command = [str(program or self.program), *words]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, **keywords)
        return Report(os.fsdecode(done.stdout))
