"""The vendors' official clients against renewd: a practice cloud for each class of tests, and what all tests ask of it.

By hand, in an environment with `requirements.txt` installed (`--no-deps`):

    RENEWD_BINARY=target/debug/renewd python -B -m unittest discover -v -s tests/sdk
"""

import json
import os
import re
import subprocess
import unittest
import urllib.request

SECRET_KEY = "sandbox-secret-key"
RENEWD = os.path.abspath(os.environ["RENEWD_BINARY"])


class Cloud:
    """`renewd sandbox` on a free port."""

    def __init__(self):
        command = [RENEWD, "sandbox", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        greeting = self.process.stderr.readline()
        found = re.search(r"http://([0-9.]+:\d+)", greeting)
        if not found:
            raise RuntimeError(f"the practice cloud does not say where it listens: {greeting!r}")
        self.address = found[1]
        self.url = f"http://{self.address}"

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=10)
        self.process.stderr.close()

    def admin(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_sandbox/{path}", method=method, data=data)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


class PracticeCase(unittest.TestCase):
    """Every test has an account of its own, so that none uses up the quota of another."""

    KEY_PREFIX = "AKIDsandbox"

    @classmethod
    def setUpClass(cls):
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.stop)

    @property
    def key_id(self):
        return f"{self.KEY_PREFIX}-{self._testMethodName}"

    def charges(self, instance):
        """What the ledger holds against an instance, oldest first."""
        return [charge for charge in self.cloud.admin("GET", "ledger") if charge["instance"] == instance]

    def assert_charged(self, instance, action, order_ids, months=None):
        charges = self.charges(instance)
        self.assertEqual([charge["order_id"] for charge in charges], order_ids)
        self.assertEqual({(charge["action"], charge["months"]) for charge in charges}, {(action, months)})
