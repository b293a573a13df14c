"""What installing, removing and purging the package does to a machine."""

from installed import STATE, InstalledCase

# As `systemd-analyze security` counts it, times ten.
EXPOSURE_MAX = 12


class PackageTest(InstalledCase):
    def test_nothing_is_started_that_nobody_has_configured(self):
        self.assertEqual((self.shown("ActiveState"), self.shown("UnitFileState")), ("inactive", "disabled"))
        self.assertFalse(self.machine.exists("/var/lib/renewd"))

    def test_everything_is_in_its_place(self):
        self.assertEqual(self.machine.run("dpkg", "--install", "/root/renewd.deb").stderr, "")
        for path in [
            "/etc/renewd/renewd.toml",
            "/etc/renewd/policies.d/cvm.toml",
            "/usr/share/man/man1/renewd.1.gz",
            "/usr/share/man/man1/renewd-plan.1.gz",
            "/usr/share/man/man5/renewd.toml.5.gz",
            "/usr/share/bash-completion/completions/renewd",
            "/usr/share/zsh/vendor-completions/_renewd",
            "/usr/share/fish/vendor_completions.d/renewd.fish",
            "/usr/share/doc/renewd/examples/renewd.rules.yml",
            "/usr/share/doc/renewd/copyright",
        ]:
            self.assertIn(path, self.machine.says("dpkg", "--listfiles", "renewd").split())
        conffiles = self.machine.says("dpkg-query", "--show", "--showformat=${Conffiles}", "renewd")
        for path in ["renewd.toml", "policies.d/redis.toml", "policies.d/ecs.toml", "policies.d/upgrade.toml"]:
            self.assertIn(f"/etc/renewd/{path} ", conffiles)
        self.assertEqual(self.machine.says("stat", "--format=%a %U", "/etc/renewd/secrets"), "700 root")
        self.assertIn("Orders are held", self.machine.says("journalctl", "--list-catalog"))
        self.machine.run("renewd", "check")

    def test_the_unit_has_no_mistake_and_leaves_little_open(self):
        verified = self.machine.run("systemd-analyze", "verify", "--man=no", "renewd.service")
        self.assertEqual(verified.stdout + verified.stderr, "")
        judged = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager"]
        print(self.machine.says(*judged, "renewd.service").splitlines()[-1])

    def test_a_systemd_that_can_wait_for_a_reload_does(self):
        version = int(self.machine.says("systemctl", "--version").split()[1])
        self.assertEqual(self.shown("Type"), "notify-reload" if version >= 253 else "notify")

    def test_an_upgrade_restarts_a_service_that_runs_and_keeps_its_edits(self):
        self.configure()
        self.start()
        self.until_confirmed([self.instance])
        before = self.shown("MainPID")
        self.machine.run("dpkg", "--install", "/root/renewd.deb")
        self.assertEqual(self.shown("ActiveState"), "active")
        self.assertNotIn(self.shown("MainPID"), (before, "0"))
        self.assert_each_paid_once([self.instance])

    def test_removing_leaves_what_was_paid_and_a_purge_takes_it(self):
        self.configure()
        self.start()
        self.until_confirmed([self.instance])
        self.machine.run("dpkg", "--remove", "renewd")
        self.assertEqual(self.shown("ActiveState"), "inactive")
        self.assertFalse(self.machine.exists("/usr/bin/renewd"))
        self.assertFalse(self.machine.exists("/usr/lib/systemd/system/renewd.service.d"))
        self.assertTrue(self.machine.exists(f"{STATE}/renewd.db"))
        self.assertTrue(self.machine.exists("/etc/renewd/policies.d/cache.toml"))

        self.machine.run("dpkg", "--install", "/root/renewd.deb")
        self.assert_each_paid_once([self.instance])

        self.machine.run("dpkg", "--purge", "renewd")
        for path in [STATE, "/var/lib/renewd", "/etc/renewd"]:
            self.assertFalse(self.machine.succeeds("ls", "-d", path), path)
