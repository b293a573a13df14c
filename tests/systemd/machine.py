"""A Debian machine of its own: a minimal tree that systemd-nspawn boots, with a systemd of that release. The tree is
made once and stays as it is; what a test does to its machine goes with it.

The machine shares this host's loopback, so that a practice cloud here is one there.
"""

import json
import os
import pathlib
import shutil
import subprocess
import time

TREES = pathlib.Path(os.environ.get("RENEWD_TREES", "target/systemd")).resolve()
# What the package depends on comes with the tree: installing it asks no mirror.
PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates,tzdata"
# Nothing here takes a tenth of it on an idle machine.
DEADLINE_SECONDS = 120


def until(what, look):
    """Looks until something is there, and answers it."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {DEADLINE_SECONDS} s: {what}")


def tree(suite):
    """The tree of a Debian release, made at its first use."""
    path = TREES / suite
    if not path.exists():
        unfinished = TREES / f"{suite}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        TREES.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, unfinished, *mirror()]
        made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode != 0:
            raise RuntimeError(f"debootstrap made no tree of {suite}:\n{made.stdout}")
        unfinished.rename(path)
    return path


def mirror():
    """Where this machine's own packages come from."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian"]
    sites = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split()
    return [site for site in sites if site.rstrip("/").endswith("/debian")][:1]


class Machine:
    def __init__(self, suite):
        command = ["systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--boot", "--console=pipe"]
        command += ["--volatile=overlay", "--directory", tree(suite)]
        # A systemd of today boots on this hierarchy only, whichever one this host has.
        environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        self.console = (TREES / f"{suite}.console").open("w+")
        streams = {"stdin": subprocess.DEVNULL, "stdout": self.console, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, env=environment, **streams)
        try:
            self.leader = until("the machine has a first process", self.first_process)
            until("the machine is up", self.is_up)
        except BaseException:
            self.stop()
            raise

    def first_process(self):
        if self.process.poll() is not None:
            self.console.seek(0)
            raise RuntimeError(f"systemd-nspawn has ended:\n{self.console.read()}")
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return next((child for child in children.split() if is_systemd(child)), None)

    def is_up(self):
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def run(self, *command, check=True, data=None):
        """A command of root's in the machine; it has to succeed, unless it is looked at by the caller."""
        surroundings = ["env", "--ignore-environment", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        entered = ["nsenter", "--target", self.leader, "--all", *surroundings, *command]
        done = subprocess.run(entered, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def says(self, *command):
        return self.run(*command).stdout.strip()

    def succeeds(self, *command):
        return self.run(*command, check=False).returncode == 0

    def exists(self, path):
        return self.succeeds("test", "-e", path)

    def put(self, path, content, mode="644"):
        data = content if isinstance(content, bytes) else content.encode()
        self.run("install", "-D", "-m", mode, "/dev/stdin", path, data=data)

    def journal(self, *matches):
        lines = self.says("journalctl", "--quiet", "--output=json", *matches).splitlines()
        return [json.loads(line) for line in lines]

    def stop(self):
        if self.process.poll() is None and getattr(self, "leader", None):
            self.run("systemctl", "poweroff", check=False)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(timeout=60)
        self.console.close()


def is_systemd(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "systemd"
    except FileNotFoundError:
        return False
