//! Every reader of both providers under one roof, and the documented answers that are theirs.

use std::fs;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, offset};
use renewd::cloud::{Look, OrdersPage, Reply, tencentcloud, volcengine};
use renewd::domain::money::Fen;
use renewd::domain::observation::{AutoRenew, Observation};
use renewd::domain::order::{ListedOrder, OrderId};
use renewd::domain::product::{InstanceId, Product, Provider, TencentProduct, VolcengineProduct};

pub const REDIS: Product = Product::TencentCloud(TencentProduct::Redis);
pub const CVM: Product = Product::TencentCloud(TencentProduct::Cvm);
pub const CVM_V2: Product = Product::TencentCloud(TencentProduct::CvmV2);
pub const ECS: Product = Product::Volcengine(VolcengineProduct::Ecs);

pub const OBSERVED_AT: &str = "2024-01-20T00:00:00Z";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Purchase(Product),
    Observations(Product),
    Price(Product),
    Balance(Provider),
    /// Tencent Cloud's list, asked for one instance.
    Deals,
    AutoRenew,
    OrdersPage,
    OrderLines,
}

pub const EVERY_READER: [Reader; 18] = [
    Reader::Purchase(REDIS),
    Reader::Purchase(CVM),
    Reader::Purchase(CVM_V2),
    Reader::Purchase(ECS),
    Reader::Observations(REDIS),
    Reader::Observations(CVM),
    Reader::Observations(CVM_V2),
    Reader::Observations(ECS),
    Reader::Price(REDIS),
    Reader::Price(CVM),
    Reader::Price(CVM_V2),
    Reader::Price(ECS),
    Reader::Balance(Provider::TencentCloud),
    Reader::Balance(Provider::Volcengine),
    Reader::Deals,
    Reader::AutoRenew,
    Reader::OrdersPage,
    Reader::OrderLines,
];

#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    Accepted(Option<OrderId>),
    Seen(Vec<Observation>),
    Amount(Fen),
    Listed(Vec<ListedOrder>),
    Settings(Vec<(InstanceId, AutoRenew)>),
    Page(OrdersPage),
    Lines(Vec<InstanceId>),
}

/// How an answer is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// `{"Response": {…}}`
    Version3,
    /// `{code, codeDesc, …}`
    Version2,
    /// `{"ResponseMetadata": {…}, "Result": {…}}`
    Volcengine,
}

impl Reader {
    /// By the name that APIs have in rate keys, with a dash for the colon.
    pub fn of(api: &str) -> Reader {
        match api {
            "redis-RenewInstance" | "redis-UpgradeInstance" => Reader::Purchase(REDIS),
            "cvm-RenewInstances" => Reader::Purchase(CVM),
            "cvm-v2-RenewInstance" => Reader::Purchase(CVM_V2),
            "ecs-RenewInstance" => Reader::Purchase(ECS),
            "redis-DescribeInstances" => Reader::Observations(REDIS),
            "cvm-DescribeInstances" => Reader::Observations(CVM),
            "cvm-v2-DescribeInstances" => Reader::Observations(CVM_V2),
            "ecs-DescribeInstances" => Reader::Observations(ECS),
            "redis-InquiryPriceRenewInstance" | "redis-InquiryPriceUpgradeInstance" => Reader::Price(REDIS),
            "cvm-InquiryPriceRenewInstances" => Reader::Price(CVM),
            "cvm-v2-InquiryInstancePrice" => Reader::Price(CVM_V2),
            "billing-QueryPriceForRenew" => Reader::Price(ECS),
            "billing-DescribeAccountBalance" => Reader::Balance(Provider::TencentCloud),
            "billing-QueryBalanceAcct" => Reader::Balance(Provider::Volcengine),
            "billing-DescribeDealsByCond" => Reader::Deals,
            "billing-ListAvailableInstances" => Reader::AutoRenew,
            "billing-ListOrders" => Reader::OrdersPage,
            "billing-ListOrderProductDetails" => Reader::OrderLines,
            _ => panic!("{api} has no reader"),
        }
    }

    pub fn envelope(self) -> Envelope {
        match self {
            Reader::Purchase(product) | Reader::Observations(product) | Reader::Price(product) => {
                match product {
                    Product::TencentCloud(TencentProduct::CvmV2) => Envelope::Version2,
                    Product::TencentCloud(_) => Envelope::Version3,
                    Product::Volcengine(_) => Envelope::Volcengine,
                }
            }
            Reader::Balance(Provider::TencentCloud) | Reader::Deals => Envelope::Version3,
            _ => Envelope::Volcengine,
        }
    }

    /// The instances that it asks for.
    pub fn ids(self) -> &'static [InstanceId] {
        static IDS: LazyLock<[Vec<InstanceId>; 4]> = LazyLock::new(|| {
            [
                ["crs-4nmzc0ul", "crs-46njvft9"],
                ["ins-9bxebleo", "ins-xlsyru2j"],
                ["ins-5678efgh", "qcvm8e7bf56c115c53ce2d2a1ac2ea6e657a"],
                ["i-3thhlu8byl4bwbha0001", "i-3thhlu8byl4bwbha0002"],
            ]
            .map(|ids| ids.map(|id| InstanceId::parse(id).unwrap()).into())
        });
        match self {
            Reader::Observations(REDIS) => &IDS[0],
            Reader::Observations(CVM) => &IDS[1],
            Reader::Observations(CVM_V2) => &IDS[2],
            Reader::Observations(ECS) | Reader::AutoRenew => &IDS[3],
            _ => &[],
        }
    }

    pub fn read(self, http_status: u16, body: &[u8]) -> Reply<Reading> {
        use {tencentcloud as tencent, volcengine as volc};
        match self {
            Reader::Purchase(Product::TencentCloud(product)) => {
                reading(tencent::read::purchase(product, http_status, body), Reading::Accepted)
            }
            Reader::Purchase(Product::Volcengine(product)) => {
                reading(volc::read::purchase(product, http_status, body), Reading::Accepted)
            }
            Reader::Observations(product) => self.observations(product, http_status, body),
            Reader::Price(Product::TencentCloud(product)) => {
                reading(tencent::read::price(product, http_status, body), Reading::Amount)
            }
            Reader::Price(Product::Volcengine(_)) => {
                reading(volc::read::price(http_status, body), Reading::Amount)
            }
            Reader::Balance(Provider::TencentCloud) => {
                reading(tencent::read::balance(http_status, body), Reading::Amount)
            }
            Reader::Balance(Provider::Volcengine) => {
                reading(volc::read::balance(http_status, body), Reading::Amount)
            }
            Reader::Deals => {
                let reply = tencent::read::orders(http_status, body, &instance_of_deals(), &zone());
                reading(reply, Reading::Listed)
            }
            Reader::AutoRenew => {
                reading(volc::read::auto_renew(http_status, body, self.ids()), Reading::Settings)
            }
            Reader::OrdersPage => reading(volc::read::orders_page(http_status, body), Reading::Page),
            Reader::OrderLines => reading(volc::read::order_lines(http_status, body), Reading::Lines),
        }
    }

    fn observations(self, product: Product, http_status: u16, body: &[u8]) -> Reply<Reading> {
        let zone = zone();
        let look = Look { ids: self.ids(), observed_at: observed_at(), zone: &zone };
        let reply = match product {
            Product::TencentCloud(product) => {
                tencentcloud::read::observations(product, http_status, body, &look)
            }
            Product::Volcengine(product) => volcengine::read::observations(product, http_status, body, &look),
        };
        reading(reply, Reading::Seen)
    }
}

fn reading<T>(reply: Reply<T>, wrap: impl FnOnce(T) -> Reading) -> Reply<Reading> {
    Reply { request_id: reply.request_id, result: reply.result.map(wrap) }
}

pub fn instance_of_deals() -> InstanceId {
    InstanceId::parse("ins-abscde").unwrap()
}

pub fn observed_at() -> Timestamp {
    OBSERVED_AT.parse().unwrap()
}

/// Of times without one.
pub fn zone() -> TimeZone {
    TimeZone::fixed(offset(8))
}

#[derive(Clone, Debug)]
pub struct Golden {
    pub name: String,
    pub reader: Reader,
    pub body: Vec<u8>,
}

/// All of them, in the order of their names.
pub fn goldens() -> Vec<Golden> {
    let mut goldens = Vec::new();
    for provider in ["tencentcloud", "volcengine"] {
        let folder = format!("{}/tests/replies/{provider}/golden", env!("CARGO_MANIFEST_DIR"));
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let reader = Reader::of(name.split('.').next().unwrap());
            goldens.push(Golden { name, reader, body: fs::read(entry.path()).unwrap() });
        }
    }
    goldens.sort_by(|one, other| one.name.cmp(&other.name));
    goldens
}
