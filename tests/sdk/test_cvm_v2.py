"""The official legacy client (API v2) against the practice cloud.

It speaks HTTPS only, and the practice cloud plain HTTP: the connection below it is another, and nothing else.
"""

import http.client
import json
import random
import time

from QcloudApi.modules.cvm import Cvm as LegacyCvm

from practice import SECRET_KEY, PracticeCase


class PlainConnection(http.client.HTTPConnection):
    """With the one attribute that the client reads of its own connection."""

    request_length = 0


class CvmV2(PracticeCase):
    def call(self, action, parameters, method="POST", signature="HmacSHA256", key_id=None, secret=SECRET_KEY):
        """The client looks its host up in its class, not in its settings."""
        kind = type("PracticeCvm", (LegacyCvm,), {"requestHost": self.cloud.address})
        settings = {"secretId": key_id or self.key_id, "secretKey": secret, "Region": "gz"}
        client = kind(settings | {"method": method, "SignatureMethod": signature})
        client.apiRequest.conn = PlainConnection(self.cloud.address, timeout=10)
        return json.loads(client.call(action, parameters))

    def renew(self, instance, months=1, **who):
        return self.call("RenewInstance", {"instanceId": instance, "period": months}, **who)

    def describe(self, instance, **who):
        answer = self.call("DescribeInstances", {"instanceIds": [instance], "limit": 100, "offset": 0}, **who)
        self.assertEqual((answer["code"], answer["codeDesc"], answer["totalCount"]), (0, "Success", 1))
        return answer["instanceSet"][0]

    def test_a_renewal_is_charged_and_described_whichever_way_it_is_signed(self):
        instance, orders = "ins-sandbox-1", []
        for way in [(method, hash) for method in ("GET", "POST") for hash in ("HmacSHA1", "HmacSHA256")]:
            with self.subTest(way):
                who = {"method": way[0], "signature": way[1]}
                before = self.describe(instance, **who)["deadlineTime"]
                answer = self.renew(instance, **who)
                self.assertEqual((answer["code"], answer["codeDesc"]), (0, "Success"))
                orders.append(answer["dealId"])
                self.assertGreater(self.describe(instance, **who)["deadlineTime"], before)
        self.assert_charged(instance, "renew", orders, months=1)
        self.assertEqual(len(set(orders)), 4)

    def test_the_price_of_a_renewal_is_what_it_costs(self):
        question = {"instanceType": 1, "instanceId": "ins-sandbox-2", "period": 2}
        fen = self.call("InquiryInstancePrice", question)["price"]
        self.renew("ins-sandbox-2", 2)
        self.assertEqual([charge["amount_cny"] for charge in self.charges("ins-sandbox-2")], [fen / 100])

    def test_a_wrong_key_a_wrong_period_and_a_missing_instance_are_refused(self):
        for method in ("GET", "POST"):
            for instance, months, who, code in [
                ("ins-sandbox-3", 1, {"secret": "another-secret"}, 4100),
                ("ins-sandbox-3", 1, {"key_id": "AKIDnobody"}, 4104),
                ("ins-sandbox-3", 37, {}, 4000),
                ("ins-sandbox-3", "one", {}, 4000),
                ("ins-nowhere", 1, {}, 5000),
            ]:
                with self.subTest((method, code)):
                    answer = self.renew(instance, months, method=method, **who)
                    self.assertEqual(int(answer["code"]), code, answer)
        self.assertEqual(self.charges("ins-sandbox-3"), [])

    def test_a_nonce_and_second_that_were_seen_charge_once(self):
        once = {"Nonce": random.randint(1, 2**31), "Timestamp": int(time.time())}
        renewal = {"instanceId": "ins-sandbox-4", "period": 1} | once
        order = self.call("RenewInstance", renewal)["dealId"]
        self.assertEqual(self.call("RenewInstance", renewal)["code"], 4500)
        self.assert_charged("ins-sandbox-4", "renew", [order], months=1)
