"""Tencent's command line against the practice cloud."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from practice import SECRET_KEY, PracticeCase


class Tccli(PracticeCase):
    def run_cli(self, service, action, *arguments, secret=SECRET_KEY):
        """What came of it; settings and logs go to a home of their own."""
        with tempfile.TemporaryDirectory() as home:
            keys = {"TENCENTCLOUD_SECRET_ID": self.key_id, "TENCENTCLOUD_SECRET_KEY": secret}
            where = ["--region", "ap-guangzhou", "--endpoint", self.cloud.url]
            command = [str(Path(sys.executable).with_name("tccli")), service, action, *where, *arguments]
            environment = os.environ | keys | {"HOME": home}
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def ok(self, *words):
        done = self.run_cli(*words)
        self.assertEqual(done.returncode, 0, done)
        return json.loads(done.stdout)

    def assert_refused(self, code, *words, **who):
        done = self.run_cli(*words, **who)
        self.assertNotEqual(done.returncode, 0, done)
        self.assertIn(f"code:{code} ", done.stdout + done.stderr)

    def test_redis_is_renewed_upgraded_and_described(self):
        renewed = self.ok("redis", "RenewInstance", "--InstanceId", "crs-sandbox-1", "--Period", "1")
        self.assert_charged("crs-sandbox-1", "renew", [renewed["DealName"]], months=1)
        size = ["--MemSize", "2048", "--RedisShardNum", "1", "--RedisReplicasNum", "1"]
        upgraded = self.ok("redis", "UpgradeInstance", "--InstanceId", "crs-sandbox-2", *size)
        self.assert_charged("crs-sandbox-2", "upgrade", [upgraded["DealName"]])
        listed = self.ok("redis", "DescribeInstances", "--InstanceId", "crs-sandbox-2")
        self.assertEqual(listed["InstanceSet"][0]["RedisShardSize"], 2048)

    def test_a_server_is_renewed_and_described(self):
        renewal = ["--InstanceIds", '["ins-sandbox-1"]', "--RenewPortableDataDisk", "False"]
        renewal += ["--InstanceChargePrepaid", '{"Period": 1, "RenewFlag": "NOTIFY_AND_MANUAL_RENEW"}']
        renewed = self.ok("cvm", "RenewInstances", *renewal)
        self.assertEqual(len(self.charges("ins-sandbox-1")), 1)
        listed = self.ok("cvm", "DescribeInstances", "--InstanceIds", '["ins-sandbox-1"]')
        self.assertEqual(listed["InstanceSet"][0]["LatestOperationRequestId"], renewed["RequestId"])

    def test_a_wrong_key_a_wrong_period_and_a_missing_instance_are_refused(self):
        renew = ("redis", "RenewInstance", "--InstanceId")
        self.assert_refused(
            "AuthFailure.SignatureFailure", *renew, "crs-sandbox-3", "--Period", "1", secret="another-secret"
        )
        self.assert_refused("LimitExceeded.PeriodExceedMaxLimit", *renew, "crs-sandbox-3", "--Period", "13")
        self.assert_refused("ResourceNotFound.InstanceNotExists", *renew, "crs-nowhere", "--Period", "1")
        self.assertEqual(self.charges("crs-sandbox-3"), [])
