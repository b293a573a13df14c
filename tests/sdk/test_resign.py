"""Requests of renewd itself, signed once more by the vendors' own code: the signatures must be the same.

The service runs as it does in production, against the practice cloud, with a recorder in between.
"""

import datetime
import re
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

from QcloudApi.common.sign import Sign as LegacySign
from tencentcloud.common.abstract_client import AbstractClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.http.request import RequestInternal
from volcenginesdkcore import signv4

from practice import RENEWD, SECRET_KEY, PracticeCase
from recorder import Recorder

V2_PATH = "/v2/index.php"
DEADLINE_SECONDS = 60

# `guest` and `visitor` sign with a session token, `shop` and `games` without.
SETTINGS = """
[account.shop]
provider   = "tencentcloud"
secret_id  = "env:SHOP_ID"
secret_key = "env:KEY"
endpoint   = "{url}"

[account.guest]
provider   = "tencentcloud"
secret_id  = "env:GUEST_ID"
secret_key = "env:KEY"
token      = "env:TOKEN"
endpoint   = "{url}"

[account.games]
provider          = "volcengine"
access_key_id     = "env:GAMES_ID"
secret_access_key = "env:KEY"
endpoint          = "{url}"

[account.visitor]
provider          = "volcengine"
access_key_id     = "env:VISITOR_ID"
secret_access_key = "env:KEY"
token             = "env:TOKEN"
endpoint          = "{url}"

[retry]
first_delay_seconds = 1
max_delay_seconds   = 2
settle_seconds      = 3
"""

# (account, product, region, instance, what): a price limit makes renewd ask for prices.
POLICIES = [
    ("shop", "redis", "ap-guangzhou", "crs-sandbox-1", "renew = { months = 1 }\nmax_price_cny = 5000"),
    ("shop", "cvm", "ap-guangzhou", "ins-sandbox-1", "renew = { months = 1 }\nmax_price_cny = 5000"),
    ("shop", "cvm-v2", "gz", "ins-sandbox-2", "renew = { months = 36 }\nmax_price_cny = 5000"),
    ("shop", "redis", "ap-guangzhou", "crs-sandbox-4", "upgrade = { mem_size_mb = 4096 }\nmax_price_cny = 5000"),
    ("guest", "redis", "ap-guangzhou", "crs-sandbox-3", "renew = { months = 12 }"),
    ("guest", "cvm", "ap-guangzhou", "ins-sandbox-3", "renew = { months = 12 }"),
    ("guest", "cvm-v2", "gz", "ins-sandbox-4", "renew = { months = 1 }"),
    ("games", "ecs", "cn-beijing", "i-sandbox-1", "renew = { months = 1 }\nmax_price_cny = 5000"),
    ("visitor", "ecs", "cn-beijing", "i-sandbox-2", "renew = { months = 12 }"),
]
# Answers that never come make renewd look for evidence: its order lists are asked for too.
LOST_ANSWERS = [("redis:RenewInstance", "crs-sandbox-1"), ("ecs:RenewInstance", "i-sandbox-1")]
SIGNED_CALLS = {
    "TC3-HMAC-SHA256": {
        "redis:RenewInstance",
        "redis:DescribeInstances",
        "redis:InquiryPriceRenewInstance",
        "redis:UpgradeInstance",
        "redis:InquiryPriceUpgradeInstance",
        "cvm:RenewInstances",
        "cvm:DescribeInstances",
        "cvm:InquiryPriceRenewInstances",
        "billing:DescribeDealsByCond",
    },
    "v2": {"RenewInstance", "DescribeInstances", "InquiryInstancePrice"},
    "HMAC-SHA256": {
        "ecs:RenewInstance",
        "ecs:DescribeInstances",
        "billing:ListOrders",
        "billing:QueryPriceForRenew",
        "billing:ListAvailableInstances",
    },
}


def scheme(request):
    return "v2" if request.target.startswith(V2_PATH) else request.headers["Authorization"].split()[0]


def call(request):
    """What a request calls, in the words of SIGNED_CALLS."""
    if scheme(request) == "v2":
        return request.pairs["Action"]
    service = re.search(r"/([a-z0-9_]+)/\w*request,", request.headers["Authorization"])[1]
    return f"{service}:{request.headers.get('X-Tc-Action') or request.query_pairs['Action']}"


def has_session_token(request):
    if scheme(request) == "v2":
        return "Token" in request.pairs
    return bool({"X-Tc-Token", "X-Security-Token"} & request.headers.keys())


def sent(request):
    """The signature that renewd sent, with all that it says of it."""
    return request.pairs["Signature"] if scheme(request) == "v2" else request.headers["Authorization"]


def resigned(request, secret_key=SECRET_KEY):
    """The same by the vendor's code."""
    by_scheme = {"TC3-HMAC-SHA256": resigned_tc3, "v2": resigned_v2, "HMAC-SHA256": resigned_volcengine}
    return by_scheme[scheme(request)](request, secret_key)


def resigned_tc3(request, secret_key):
    credential = re.search(r"Credential=([^,]*)", request.headers["Authorization"])[1]
    _, date, service, _ = credential.split("/")
    headers = {"Host": request.headers["Host"], "Content-Type": request.headers["Content-Type"]}
    headers["X-TC-Timestamp"] = request.headers["X-Tc-Timestamp"]
    internal = RequestInternal(request.headers["Host"], request.method, "/", headers, request.body)
    client = AbstractClient(Credential("unused", "unused"), "")
    signature = client._get_tc3_signature({}, internal, date, service, secret_key)
    signed = "content-type;host"
    return f"TC3-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}"


def resigned_v2(request, secret_key):
    pairs = {name: value for name, value in request.pairs.items() if name != "Signature"}
    signer = LegacySign(pairs["SecretId"], secret_key)
    return signer.make(request.headers["Host"], V2_PATH, pairs, request.method, pairs["SignatureMethod"])


def resigned_volcengine(request, secret_key):
    credential = re.search(r"Credential=([^,]*)", request.headers["Authorization"])[1]
    key_id, _, region, service, _ = credential.split("/")
    signed_at = datetime.datetime.strptime(request.headers["X-Date"], "%Y%m%dT%H%M%SZ")
    headers = {name: request.headers[name] for name in ("Host", "Content-Type") if name in request.headers}
    token = request.headers.get("X-Security-Token")
    with mock.patch.object(signv4.datetime, "datetime", mock.Mock(utcnow=lambda: signed_at)):
        signv4.SignerV4.sign(
            "/",
            request.method,
            headers,
            request.body,
            None,
            request.query_pairs,
            key_id,
            secret_key,
            region,
            service,
            token,
        )
    return headers["Authorization"]


def with_one_more(request):
    """A byte in JSON, a parameter elsewhere."""
    if request.method == "GET":
        return replace(request, target=request.target + "&More=1")
    return replace(request, body=request.body + (" " if request.body.endswith("}") else "&More=1"))


class Resigned(PracticeCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lost = {"effect": "after", "kind": "drop", "times": 1}
        faults = [lost | {"api": api, "instance": instance} for api, instance in LOST_ANSWERS]
        cls.cloud.admin("POST", "faults", faults)
        recorder = Recorder(cls.cloud.address)
        cls.addClassCleanup(recorder.stop)
        with tempfile.TemporaryDirectory() as folder:
            cls.run_service(Path(folder), recorder)
        cls.requests = list(recorder.requests)

    @classmethod
    def run_service(cls, folder, recorder):
        """Until every policy has bought what it is for and every kind of call was made."""
        (folder / "policies.d").mkdir()
        (folder / "renewd.toml").write_text(SETTINGS.format(url=recorder.url))
        lines = (
            f'[policy.{instance}]\naccount = "{account}"\nproduct = "{product}"\nregion = "{region}"\n'
            f'instances = ["{instance}"]\nschedule = "*/2 * * * * *"\n{what}\n'
            for account, product, region, instance, what in POLICIES
        )
        (folder / "policies.d" / "all.toml").write_text("\n".join(lines))
        environment = {"KEY": SECRET_KEY, "TOKEN": "FAKE-SESSION-TOKEN"}
        environment |= {f"{name}_ID": f"AKIDsandbox-{name.lower()}" for name in ("SHOP", "GUEST")}
        environment |= {f"{name}_ID": f"AKLTsandbox-{name.lower()}" for name in ("GAMES", "VISITOR")}
        log = folder / "log"
        with log.open("w") as output:
            command = [RENEWD, "--config", folder / "renewd.toml", "run"]
            service = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            give_up_at = time.monotonic() + DEADLINE_SECONDS
            while missing := cls.still_missing(recorder):
                if time.monotonic() > give_up_at or service.poll() is not None:
                    raise AssertionError(f"never came: {missing}\n{log.read_text()[-4000:]}")
                time.sleep(0.1)
        finally:
            service.terminate()
            service.wait(timeout=30)

    @classmethod
    def still_missing(cls, recorder):
        charged = {charge["instance"] for charge in cls.cloud.admin("GET", "ledger")}
        called = {(scheme(request), call(request)) for request in list(recorder.requests)}
        wanted = {(kind, name) for kind, names in SIGNED_CALLS.items() for name in names}
        return ({instance for _, _, _, instance, _ in POLICIES} - charged) | (wanted - called)

    def assert_resigned(self, kind):
        requests = [request for request in self.requests if scheme(request) == kind]
        self.assertEqual({call(request) for request in requests} & SIGNED_CALLS[kind], SIGNED_CALLS[kind])
        for request in requests:
            with self.subTest(call(request)):
                self.assertEqual(resigned(request), sent(request))
        self.assertEqual({has_session_token(request) for request in requests}, {False, True})

    def test_tencent_api_3_requests_are_signed_as_the_official_client_would(self):
        self.assert_resigned("TC3-HMAC-SHA256")

    def test_tencent_api_v2_requests_are_signed_as_the_official_client_would(self):
        self.assert_resigned("v2")

    def test_volcengine_requests_are_signed_as_the_official_client_would(self):
        self.assert_resigned("HMAC-SHA256")

    def test_the_comparison_sees_another_key_another_host_and_another_parameter(self):
        for request in self.requests:
            with self.subTest(call(request)):
                other_host = replace(request, headers=request.headers | {"Host": "elsewhere"})
                self.assertNotEqual(resigned(request, "another-secret"), sent(request))
                self.assertNotEqual(resigned(other_host), sent(request))
                self.assertNotEqual(resigned(with_one_more(request)), sent(request))

    def test_what_is_charged_is_charged_once(self):
        charged = [charge["instance"] for charge in self.cloud.admin("GET", "ledger")]
        self.assertEqual(sorted(charged), sorted(instance for _, _, _, instance, _ in POLICIES))
