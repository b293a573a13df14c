"""The official Volcengine client against the practice cloud."""

import datetime
import json

import volcenginesdkbilling as billing
import volcenginesdkcore
import volcenginesdkecs as ecs
from volcenginesdkcore.rest import ApiException

from practice import SECRET_KEY, PracticeCase

UTC = "%Y-%m-%dT%H:%M:%SZ"


class Ecs(PracticeCase):
    KEY_PREFIX = "AKLTsandbox"

    def client(self, kind=ecs.ECSApi, key_id=None, secret=SECRET_KEY, session_token=None):
        settings = volcenginesdkcore.Configuration()
        settings.ak, settings.sk, settings.session_token = key_id or self.key_id, secret, session_token
        settings.region, settings.host, settings.scheme = "cn-beijing", self.cloud.address, "http"
        # Its retries would hide the first answer.
        settings.auto_retry = False
        return kind(volcenginesdkcore.ApiClient(settings))

    def renew(self, instance, months=1, token=None, **who):
        request = ecs.RenewInstanceRequest(
            instance_id=instance, period=months, period_unit="Month", client_token=token
        )
        return self.client(**who).renew_instance(request).order_id

    def describe(self, instance):
        listed = self.client().describe_instances(
            ecs.DescribeInstancesRequest(instance_ids=[instance], max_results=100)
        )
        self.assertEqual(listed.total_count, 1)
        return listed.instances[0]

    def assert_refused(self, status, code, call, *arguments, **named):
        with self.assertRaises(ApiException) as raised:
            call(*arguments, **named)
        error = json.loads(raised.exception.body)["ResponseMetadata"]["Error"]
        self.assertEqual((raised.exception.status, error["Code"]), (status, code), error)

    def test_a_renewal_is_charged_and_described(self):
        before = self.describe("i-sandbox-1")
        self.assertEqual((before.status, before.instance_charge_type), ("RUNNING", "PrePaid"))
        order = self.renew("i-sandbox-1", 3, "a-renewal")
        self.assertGreater(self.describe("i-sandbox-1").expired_at, before.expired_at)
        self.assert_charged("i-sandbox-1", "renew", [order], months=3)
        self.assertEqual(self.charges("i-sandbox-1")[0]["client_token"], "a-renewal")

    def test_a_token_that_is_played_again_gives_its_order_and_charges_once(self):
        order = self.renew("i-sandbox-2", 1, "again")
        self.assertEqual(self.renew("i-sandbox-2", 1, "again"), order)
        self.assert_charged("i-sandbox-2", "renew", [order], months=1)
        self.assertNotEqual(self.renew("i-sandbox-2", 1, "another"), order)

    def test_a_token_with_other_content_is_refused(self):
        order = self.renew("i-sandbox-3", 1, "mismatch")
        for instance, months in [("i-sandbox-3", 2), ("i-sandbox-4", 1)]:
            self.assert_refused(400, "IdempotentParameterMismatch", self.renew, instance, months, "mismatch")
        self.assert_charged("i-sandbox-3", "renew", [order], months=1)
        self.assertEqual(self.charges("i-sandbox-4"), [])

    def test_a_token_still_in_process_is_told_so(self):
        lag = {"api": "ecs:RenewInstance", "instance": "i-sandbox-5", "effect": "after", "kind": "lag", "times": 1}
        self.cloud.admin("POST", "faults", [lag | {"delay_ms": 600_000}])
        order = self.renew("i-sandbox-5", 1, "in-process")
        self.assert_refused(412, "IdempotentProcessing", self.renew, "i-sandbox-5", 1, "in-process")
        self.assert_charged("i-sandbox-5", "renew", [order], months=1)

    def test_a_wrong_key_a_wrong_period_and_a_missing_instance_are_refused(self):
        for status, code, instance, months, who in [
            (401, "InvalidAccessKey", "i-sandbox-6", 1, {"key_id": "AKLTnobody"}),
            (401, "SignatureDoesNotMatch", "i-sandbox-6", 1, {"secret": "another-secret"}),
            (400, "InvalidPeriod", "i-sandbox-6", 10, {}),
            (400, "InvalidPeriod", "i-sandbox-6", 0, {}),
            (404, "InvalidInstance.NotFound", "i-nowhere", 1, {}),
        ]:
            with self.subTest((code, months)):
                self.assert_refused(status, code, self.renew, instance, months, "wrong", **who)
        self.assertEqual(self.charges("i-sandbox-6"), [])

    def test_a_session_token_is_signed_with_the_rest(self):
        order = self.renew("i-sandbox-7", 1, "session", session_token="FAKE-SESSION-TOKEN")
        self.assert_charged("i-sandbox-7", "renew", [order], months=1)

    def test_a_renewal_is_in_the_orders_and_off_the_balance(self):
        client = self.client(billing.BILLINGApi)
        question = billing.QueryBalanceAcctRequest()
        before = float(client.query_balance_acct(question).available_balance)
        price = client.query_price_for_renew(
            billing.QueryPriceForRenewRequest(product="ECS", instance_id_list=["i-sandbox-8"], use_duration=2)
        )
        order_id = self.renew("i-sandbox-8", 2, "listed")
        after = float(client.query_balance_acct(question).available_balance)
        self.assertEqual(before - after, float(price.total_discount_amount))
        at, hour = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(hours=1)
        window = {"create_time_start": f"{at - hour:{UTC}}", "create_time_end": f"{at + hour:{UTC}}"}
        query = billing.ListOrdersRequest(order_type="Renew", max_results=100, **window)
        (order,) = client.list_orders(query).order_infos
        self.assertEqual((order.order_id, order.status), (order_id, "Paid"))
        self.assertEqual(order.paid_amount, price.total_discount_amount)
        details = client.list_order_product_details(
            billing.ListOrderProductDetailsRequest(order_id=order_id, max_results=100)
        )
        self.assertEqual([line.instance_id for line in details.order_product_infos], ["i-sandbox-8"])
        found = client.get_order(billing.GetOrderRequest(order_id=order_id)).order_info
        self.assertEqual(found.status, "Paid")

    def test_the_renewal_settings_are_listed(self):
        self.cloud.admin("PUT", "instances/i-sandbox-9", {"auto_renew": True})
        query = billing.ListAvailableInstancesRequest(max_results=100, instance_ids=["i-sandbox-9"])
        (listed,) = self.client(billing.BILLINGApi).list_available_instances(query).instance_list
        self.assertEqual((listed.instance_id, listed.renew_type), ("i-sandbox-9", "Automatically"))
