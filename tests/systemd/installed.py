"""The package on a machine of its own, and a practice cloud that its service renews at."""

import datetime
import itertools
import json
import os
import pathlib
import sys
import unittest

sys.path.append(str(pathlib.Path(__file__).parent.parent / "sdk"))

from machine import Machine, until
from practice import SECRET_KEY, Cloud

SUITE = os.environ.get("RENEWD_SUITE", "bookworm")
PACKAGE = pathlib.Path(os.environ["RENEWD_PACKAGE"])
STATE = "/var/lib/private/renewd"
DROP_IN = "/etc/systemd/system/renewd.service.d/test.conf"
KEY_ID = "AKIDsandbox-systemd"


def in_days(days):
    then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return then.strftime("%Y-%m-%dT%H:%M:%SZ")


class InstalledCase(unittest.TestCase):
    """Every test finds the package installed, and nothing configured, started or left behind by another test."""

    numbers = itertools.count(1)

    @classmethod
    def setUpClass(cls):
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.stop)
        cls.machine = Machine(SUITE)
        cls.addClassCleanup(cls.machine.stop)
        cls.machine.put("/root/renewd.deb", PACKAGE.read_bytes())

    def setUp(self):
        self.machine.run("dpkg", "--purge", "renewd")
        self.machine.run("rm", "-rf", DROP_IN)
        self.machine.run("dpkg", "--force-unsafe-io", "--install", "/root/renewd.deb")
        # Each test's instances are its own, in the one cloud.
        self.instance = f"crs-systemd-{next(self.numbers)}"

    def configure(self, unit=""):
        """An account whose secrets come as credentials, and a policy of one instance."""
        self.machine.put("/etc/renewd/secrets/shop-secret-id", KEY_ID, mode="600")
        self.machine.put("/etc/renewd/secrets/shop-secret-key", SECRET_KEY, mode="600")
        load = "LoadCredential=shop-secret-{0}:/etc/renewd/secrets/shop-secret-{0}\n"
        self.machine.put(DROP_IN, f"[Service]\n{load.format('id')}{load.format('key')}{unit}")
        self.machine.run("systemctl", "daemon-reload")
        self.machine.put("/etc/renewd/renewd.toml", f"""
database = "/var/lib/renewd/renewd.db"
[account.shop]
provider   = "tencentcloud"
secret_id  = "credential:shop-secret-id"
secret_key = "credential:shop-secret-key"
endpoint   = "{self.cloud.url}"
[retry]
first_delay_seconds = 1
max_delay_seconds   = 2
settle_seconds      = 30
""")
        self.machine.run("rm", "-f", "/etc/renewd/policies.d/redis.toml")
        self.add_policy("cache", [self.instance])

    def add_policy(self, name, instances):
        """It fires each second, and each of its instances is due for one month."""
        for instance in instances:
            self.cloud.admin("PUT", f"instances/{instance}", {"expires_at": in_days(3)})
        self.put_policy(name, f"""
[policy.{name}]
account   = "shop"
product   = "redis"
region    = "ap-guangzhou"
instances = {list(instances)!r}
schedule  = "* * * * * *"
renew     = {{ months = 1 }}
""".replace("'", '"'))

    def put_policy(self, name, text):
        self.machine.put(f"/etc/renewd/policies.d/{name}.toml", text)

    def start(self):
        self.machine.run("systemctl", "enable", "--quiet", "--now", "renewd")

    def shown(self, name):
        """A property of the unit."""
        return self.machine.says("systemctl", "show", "--value", f"--property={name}", "renewd")

    def orders(self, *filters):
        return json.loads(self.machine.says("renewd", "orders", "--json", "--limit", "1000", *filters))

    def charges(self, instances):
        return [charge for charge in self.cloud.admin("GET", "ledger") if charge["instance"] in instances]

    def until_confirmed(self, instances):
        def look():
            confirmed = [order["instance"] for order in self.orders() if order["state"] == "confirmed"]
            return set(instances) <= set(confirmed)
        until(f"the orders of {len(instances)} instances are confirmed", look)

    def assert_each_paid_once(self, instances):
        """The cloud's ledger has one charge for each, and the database the same."""
        charges = self.charges(instances)
        self.assertEqual(sorted(charge["instance"] for charge in charges), sorted(instances))
        confirmed = [order for order in self.orders() if order["state"] == "confirmed"]
        confirmed = [order for order in confirmed if order["instance"] in instances]
        self.assertEqual(
            sorted((order["instance"], order["order_id"]) for order in confirmed),
            sorted((charge["instance"], charge["order_id"]) for charge in charges),
        )

    def until_logged(self, event, *matches):
        matches = ("--unit=renewd", f"RENEWD_EVENT={event}", *matches)
        return until(f"{event} is in the journal", lambda: self.machine.journal(*matches))
