"""The service as systemd runs it."""

from installed import DROP_IN, KEY_ID, SECRET_KEY, STATE, InstalledCase
from machine import until

REFUSED = 78


class ServiceTest(InstalledCase):
    def setUp(self):
        super().setUp()
        self.configure()

    def test_it_is_running_once_it_is_ready_and_orders_what_is_due(self):
        self.start()
        self.assertEqual((self.shown("ActiveState"), self.shown("SubState")), ("active", "running"))
        self.until_logged("service.ready")
        self.until_confirmed([self.instance])
        self.assert_each_paid_once([self.instance])
        until("the status has counts", lambda: "1 succeeded" in self.shown("StatusText"))
        self.assertIn("unknown orders: 0; instances at risk: 0", self.shown("StatusText"))

    def test_a_reload_takes_a_good_edit_and_refuses_a_bad_one_as_a_whole(self):
        self.start()
        process = self.shown("MainPID")
        more = f"{self.instance}-more"
        self.add_policy("more", [more])
        self.machine.run("systemctl", "reload", "renewd")
        self.until_logged("config.reloaded")
        self.until_confirmed([self.instance, more])

        self.put_policy("cache", "[policy.cache]\nschedule = \"every night\"\n")
        self.machine.run("systemctl", "reload", "renewd")
        refusal = self.until_logged("config.refused")[-1]
        self.assertEqual(refusal["PRIORITY"], "3")
        self.assertEqual((self.shown("ActiveState"), self.shown("MainPID")), ("active", process))
        until("the status says so", lambda: "the files on disk are REFUSED" in self.shown("StatusText"))
        self.assertIn("REFUSED", self.machine.says("renewd", "status"))
        self.assert_each_paid_once([self.instance, more])

    def test_one_that_is_killed_is_started_again_and_nothing_is_paid_twice(self):
        instances = [f"{self.instance}-{number}" for number in range(30)]
        self.add_policy("many", instances)
        self.start()
        until("some are paid", lambda: len(self.charges(instances)) >= 3)
        self.machine.run("systemctl", "kill", "--signal=KILL", "renewd")
        self.assertLess(len(self.charges(instances)), len(instances))
        until("it is started again", lambda: self.shown("NRestarts") == "1")
        self.until_confirmed(instances)
        self.assert_each_paid_once(instances)

    def test_one_that_stands_still_is_ended_by_the_watchdog_and_started_again(self):
        self.configure("WatchdogSec=5s\n")
        self.start()
        self.until_confirmed([self.instance])
        process = self.shown("MainPID")
        self.machine.run("systemctl", "kill", "--signal=STOP", "renewd")
        until("it is started again", lambda: self.shown("NRestarts") == "1")
        messages = [entry["MESSAGE"] for entry in self.machine.journal("_PID=1", "UNIT=renewd.service")]
        self.assertTrue(any("Watchdog timeout" in message for message in messages), messages)
        until("it runs", lambda: self.shown("SubState") == "running")
        self.assertNotEqual(self.shown("MainPID"), process)
        after = f"{self.instance}-after"
        self.add_policy("after", [after])
        self.until_confirmed([after])
        self.assert_each_paid_once([self.instance, after])

    def test_a_watchdog_does_not_end_one_that_works(self):
        self.configure("WatchdogSec=4s\n")
        self.start()
        fed = lambda: int(self.shown("WatchdogTimestampMonotonic"))
        started = int(self.shown("ExecMainStartTimestampMonotonic"))
        until("it was fed for three times as long", lambda: fed() - started > 12_000_000)
        self.assertEqual(self.shown("NRestarts"), "0")

    def test_only_the_service_can_read_its_credentials(self):
        self.start()
        self.until_confirmed([self.instance])
        process = self.shown("MainPID")
        self.assertNotEqual(self.machine.says("stat", "--format=%u", f"/proc/{process}"), "0")
        handed = "/run/credentials/renewd.service/shop-secret-key"
        self.assertTrue(self.machine.exists(handed))
        for path in [handed, "/etc/renewd/secrets/shop-secret-key"]:
            for user in ["nobody", "daemon"]:
                self.assertFalse(self.machine.succeeds("runuser", "-u", user, "--", "cat", path), (path, user))
        for place in [f"/proc/{process}/environ", f"/proc/{process}/cmdline", STATE, "/var/log/journal", "/run/log"]:
            self.assertFalse(self.machine.succeeds("grep", "-rqaF", SECRET_KEY, place), place)

    def test_credentials_may_be_encrypted_on_disk(self):
        load = []
        for name, secret in [("shop-secret-id", KEY_ID), ("shop-secret-key", SECRET_KEY)]:
            path = f"/etc/renewd/secrets/{name}"
            # By default a key on a disk that is thrown away is not trusted.
            encrypt = ["systemd-creds", "encrypt", "--with-key=host", f"--name={name}", "-", f"{path}.cred"]
            self.machine.run(*encrypt, data=secret.encode())
            self.machine.run("rm", path)
            load.append(f"LoadCredentialEncrypted={name}:{path}.cred")
        self.machine.put(DROP_IN, "\n".join(["[Service]", *load, ""]))
        self.machine.run("systemctl", "daemon-reload")
        self.start()
        self.until_confirmed([self.instance])

    def test_the_journal_is_asked_by_field_and_explains_what_to_do(self):
        self.start()
        self.until_confirmed([self.instance])
        [charge] = self.charges([self.instance])
        entry = self.until_logged("order.confirmed", "RENEWD_POLICY=cache")[-1]
        self.assertEqual(entry["RENEWD_INSTANCE"], self.instance)
        self.assertEqual(entry["RENEWD_ORDER_ID"], charge["order_id"])
        self.assertEqual((entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]), ("6", "renewd"))
        self.assertTrue(self.machine.journal(f"RENEWD_ORDER_ID={charge['order_id']}"))

        self.put_policy("cache", "[broken")
        self.until_logged("config.refused")
        explained = self.machine.says("journalctl", "--catalog", "--no-pager", "--unit=renewd")
        self.assertIn("Subject: The files on disk are refused", explained)
        self.assertIn("`renewd check` shows every mistake", explained)

    def test_a_stop_is_clean(self):
        self.start()
        self.until_confirmed([self.instance])
        self.machine.run("systemctl", "stop", "renewd")
        ended = {name: self.shown(name) for name in ["ActiveState", "Result", "ExecMainCode", "ExecMainStatus"]}
        exited = {"ActiveState": "inactive", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"}
        self.assertEqual(ended, exited)
        self.until_logged("service.stopped")
        self.assertIn("NOT running: stopped at", self.machine.says("renewd", "status"))
        self.assert_each_paid_once([self.instance])

    def test_a_refused_configuration_is_not_started_again(self):
        self.machine.put("/etc/renewd/renewd.toml", "[account.shop\n")
        self.assertFalse(self.machine.succeeds("systemctl", "start", "renewd"))
        self.assertEqual(self.shown("ExecMainStatus"), str(REFUSED))
        self.assertEqual((self.shown("ActiveState"), self.shown("NRestarts")), ("failed", "0"))
        self.machine.run("systemctl", "reset-failed", "renewd")
