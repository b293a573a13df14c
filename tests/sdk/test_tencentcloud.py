"""The official Tencent Cloud client for API 3.0 against the practice cloud."""

import datetime
from unittest import mock

from tencentcloud.billing.v20180709 import billing_client
from tencentcloud.billing.v20180709 import models as billing
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.cvm.v20170312 import cvm_client
from tencentcloud.cvm.v20170312 import models as cvm
from tencentcloud.redis.v20180412 import models as redis
from tencentcloud.redis.v20180412 import redis_client

from practice import SECRET_KEY, PracticeCase

TC3 = "TC3-HMAC-SHA256"
# (signature, method, whether the payload is left unsigned): every way the client knows to sign.
WAYS = [
    (TC3, "POST", False),
    (TC3, "POST", True),
    (TC3, "GET", False),
    (TC3, "GET", True),
    ("HmacSHA1", "POST", False),
    ("HmacSHA1", "GET", False),
    ("HmacSHA256", "POST", False),
    ("HmacSHA256", "GET", False),
]


def filled(request, **fields):
    """A request of the client's model; a field it does not know is a mistake here."""
    for name, value in fields.items():
        if not hasattr(request, name):
            raise AttributeError(f"{type(request).__name__} has no {name}")
        setattr(request, name, value)
    return request


class TencentCase(PracticeCase):
    def client(self, kind, key_id=None, secret=SECRET_KEY, way=WAYS[0]):
        signature, method, is_unsigned = way
        http = HttpProfile(protocol="http", endpoint=self.cloud.address, reqMethod=method, reqTimeout=10)
        profile = ClientProfile(signMethod=signature, httpProfile=http)
        profile.unsignedPayload = is_unsigned
        return kind(Credential(key_id or self.key_id, secret), "ap-guangzhou", profile)

    def assert_refused(self, code, call, *arguments):
        with self.assertRaises(TencentCloudSDKException) as raised:
            call(*arguments)
        self.assertEqual(raised.exception.get_code(), code, raised.exception)
        self.assertTrue(raised.exception.get_request_id())

    def deals(self, instance):
        at = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=2)
        query = filled(
            billing.DescribeDealsByCondRequest(),
            StartTime=f"{at - day:%Y-%m-%d %H:%M:%S}",
            EndTime=f"{at + day:%Y-%m-%d %H:%M:%S}",
            Limit=20,
            ResourceId=instance,
            StatusSet=[1, 2, 3, 4],
        )
        return self.client(billing_client.BillingClient).DescribeDealsByCond(query).Deals


class Redis(TencentCase):
    def renewal(self, instance, months=1):
        return filled(redis.RenewInstanceRequest(), InstanceId=instance, Period=months)

    def renew(self, instance, months=1, **who):
        client = self.client(redis_client.RedisClient, **who)
        return client.RenewInstance(self.renewal(instance, months)).DealName

    def describe(self, instance, **who):
        query = filled(redis.DescribeInstancesRequest(), InstanceIds=[instance], Limit=20, Offset=0, Status=[2])
        listed = self.client(redis_client.RedisClient, **who).DescribeInstances(query)
        self.assertEqual(listed.TotalCount, 1)
        return listed.InstanceSet[0]

    def test_a_renewal_is_charged_and_described_whichever_way_it_is_signed(self):
        instance, orders = "crs-sandbox-1", []
        for way in WAYS:
            with self.subTest(way):
                before = self.describe(instance, way=way).DeadlineTime
                orders.append(self.renew(instance, way=way))
                self.assertGreater(self.describe(instance, way=way).DeadlineTime, before)
        self.assert_charged(instance, "renew", orders, months=1)
        self.assertEqual(len(set(orders)), len(WAYS))

    def test_a_renewal_is_in_the_deals_and_off_the_balance(self):
        query = billing.DescribeAccountBalanceRequest()
        client = self.client(billing_client.BillingClient)
        before = client.DescribeAccountBalance(query).Balance
        price = self.client(redis_client.RedisClient).InquiryPriceRenewInstance(
            filled(redis.InquiryPriceRenewInstanceRequest(), InstanceId="crs-sandbox-2", Period=12)
        )
        order = self.renew("crs-sandbox-2", 12)
        self.assertEqual(before - client.DescribeAccountBalance(query).Balance, price.Price)
        (deal,) = self.deals("crs-sandbox-2")
        self.assertEqual((deal.OrderId, deal.Action, deal.TimeSpan, deal.TimeUnit), (order, "renew", 12, "m"))
        self.assertEqual((deal.Status, deal.RealTotalCost, deal.ResourceId), (4, price.Price, ["crs-sandbox-2"]))

    def test_an_upgrade_is_charged_and_described_and_does_not_go_back(self):
        instance, client = "crs-sandbox-3", self.client(redis_client.RedisClient)
        target = {"InstanceId": instance, "MemSize": 4096, "RedisShardNum": 1, "RedisReplicasNum": 1}
        price = client.InquiryPriceUpgradeInstance(filled(redis.InquiryPriceUpgradeInstanceRequest(), **target))
        self.assertGreater(price.Price, 0)
        order = client.UpgradeInstance(filled(redis.UpgradeInstanceRequest(), **target)).DealName
        self.assert_charged(instance, "upgrade", [order])
        self.assertEqual(self.describe(instance).RedisShardSize, 4096)
        for wrong, code in [
            ({"MemSize": 8192, "RedisShardNum": 2}, "InvalidParameter.InvalidParameter"),
            ({"MemSize": 1500}, "InvalidParameterValue.MemSizeNotInRange"),
            ({"InstanceId": "crs-nowhere"}, "ResourceNotFound.InstanceNotExists"),
        ]:
            request = filled(redis.UpgradeInstanceRequest(), **(target | wrong))
            self.assert_refused(code, client.UpgradeInstance, request)
        self.assert_charged(instance, "upgrade", [order])

    def test_a_wrong_key_is_refused_whichever_way_it_signs(self):
        for way in WAYS:
            with self.subTest(way):
                for who, code in [
                    ({"secret": "another-secret"}, "AuthFailure.SignatureFailure"),
                    ({"key_id": "AKIDnobody"}, "AuthFailure.SecretIdNotFound"),
                ]:
                    client = self.client(redis_client.RedisClient, way=way, **who)
                    self.assert_refused(code, client.RenewInstance, self.renewal("crs-sandbox-4"))
        self.assertEqual(self.charges("crs-sandbox-4"), [])

    def test_a_wrong_period_and_a_missing_instance_are_refused(self):
        for number, way in enumerate(WAYS):
            with self.subTest(way):
                # The quota is that of a key, and refused calls use it up too.
                client = self.client(redis_client.RedisClient, key_id=f"{self.key_id}-{number}", way=way)
                for instance, months, code in [
                    ("crs-sandbox-5", 13, "LimitExceeded.PeriodExceedMaxLimit"),
                    ("crs-sandbox-5", 0, "LimitExceeded.PeriodLessThanMinLimit"),
                    ("crs-nowhere", 1, "ResourceNotFound.InstanceNotExists"),
                ]:
                    self.assert_refused(code, client.RenewInstance, self.renewal(instance, months))
        self.assertEqual(self.charges("crs-sandbox-5"), [])

    def test_a_signature_v1_that_is_played_again_charges_once(self):
        client = self.client(redis_client.RedisClient, way=("HmacSHA256", "POST", False))
        # The same nonce in the same second signs the same bytes.
        with mock.patch("random.randint", return_value=20_180_412), mock.patch("time.time") as clock:
            clock.return_value = datetime.datetime.now(datetime.timezone.utc).timestamp()
            order = client.RenewInstance(self.renewal("crs-sandbox-6")).DealName
            self.assert_refused(
                "InvalidRequest.ReplayAttack", client.RenewInstance, self.renewal("crs-sandbox-6")
            )
        self.assert_charged("crs-sandbox-6", "renew", [order], months=1)


class Cvm(TencentCase):
    def renewal(self, instance, months=1):
        prepaid = filled(cvm.InstanceChargePrepaid(), Period=months, RenewFlag="NOTIFY_AND_AUTO_RENEW")
        return filled(
            cvm.RenewInstancesRequest(),
            InstanceIds=[instance],
            InstanceChargePrepaid=prepaid,
            RenewPortableDataDisk=False,
        )

    def describe(self, instance, **who):
        query = filled(cvm.DescribeInstancesRequest(), InstanceIds=[instance], Limit=100)
        listed = self.client(cvm_client.CvmClient, **who).DescribeInstances(query)
        self.assertEqual(listed.TotalCount, 1)
        return listed.InstanceSet[0]

    def test_a_renewal_is_charged_and_described_whichever_way_it_is_signed(self):
        instance = "ins-sandbox-1"
        for way in WAYS:
            with self.subTest(way):
                before = self.describe(instance, way=way).ExpiredTime
                client = self.client(cvm_client.CvmClient, way=way)
                request_id = client.RenewInstances(self.renewal(instance)).RequestId
                after = self.describe(instance, way=way)
                self.assertGreater(after.ExpiredTime, before)
                self.assertEqual(after.RenewFlag, "NOTIFY_AND_AUTO_RENEW")
                self.assertEqual(
                    (after.LatestOperation, after.LatestOperationRequestId, after.LatestOperationState),
                    ("RenewInstances", request_id, "SUCCESS"),
                )
        orders = [deal.OrderId for deal in reversed(self.deals(instance))]
        self.assertEqual(len(orders), len(WAYS))
        self.assert_charged(instance, "renew", orders, months=1)

    def test_the_price_of_a_renewal_is_what_it_costs(self):
        renewal = self.renewal("ins-sandbox-2", 3)
        question = filled(
            cvm.InquiryPriceRenewInstancesRequest(),
            InstanceIds=renewal.InstanceIds,
            InstanceChargePrepaid=renewal.InstanceChargePrepaid,
            RenewPortableDataDisk=False,
        )
        client = self.client(cvm_client.CvmClient)
        price = client.InquiryPriceRenewInstances(question).Price.InstancePrice.DiscountPrice
        client.RenewInstances(renewal)
        self.assertEqual([charge["amount_cny"] for charge in self.charges("ins-sandbox-2")], [price])

    def test_a_wrong_key_a_wrong_period_and_a_missing_instance_are_refused(self):
        good = self.client(cvm_client.CvmClient)
        for client, instance, months, code in [
            (self.client(cvm_client.CvmClient, secret="other"), "ins-sandbox-3", 1, "AuthFailure.SignatureFailure"),
            (self.client(cvm_client.CvmClient, key_id="AKIDx"), "ins-sandbox-3", 1, "AuthFailure.SecretIdNotFound"),
            (good, "ins-sandbox-3", 13, "InvalidPeriod"),
            (good, "ins-nowhere", 1, "InvalidInstanceId.NotFound"),
            (good, "crs-sandbox-1", 1, "InvalidInstanceId.Malformed"),
        ]:
            with self.subTest(code):
                self.assert_refused(code, client.RenewInstances, self.renewal(instance, months))
        self.assertEqual(self.charges("ins-sandbox-3"), [])
