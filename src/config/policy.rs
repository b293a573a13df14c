//! One `[policy.NAME]` table.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::config::account::read_amount;
use crate::config::plan::Plans;
use crate::config::reader::{Entry, Table, quoted, suggestion};
use crate::config::region::read_region;
use crate::config::settings::Surroundings;
use crate::domain::money::Fen;
use crate::domain::policy::{
    Action, ActionKind, OnAutoRenew, OnUnknown, Policy, Renew, RenewWhen, ScheduleText, Terms, Upgrade,
};
use crate::domain::product::{
    AccountName, InstanceId, PolicyName, Product, Provider, Region, TencentProduct,
};
use crate::schedule::dialect::{self, Misreading};

/// A policy that does not say when expects this many days' notice.
pub const DEFAULT_WITHIN_DAYS: u32 = 15;

/// Five years, the longest term on sale.
const MOST_WITHIN_DAYS: u32 = 1_830;
/// An expiry has to move at least this far for each month ordered, so nothing is due longer before it.
const SHORTEST_MONTH_DAYS: u32 = 28;
const LONGEST_TERM_MONTHS: u32 = 1_200;

const ZONE_HELP: &str = "write for example timezone = \"Asia/Shanghai\"";

/// A policy as far as it could be read: enough to find clashes even when it is refused.
pub(crate) struct Draft {
    /// The name as it is written, for messages.
    pub(crate) title: String,
    pub(crate) name: Option<PolicyName>,
    pub(crate) name_span: Span,
    pub(crate) product: Option<Product>,
    pub(crate) region: Option<Region>,
    pub(crate) instances: Vec<InstanceId>,
    /// Of each instance.
    pub(crate) spans: Vec<Span>,
    pub(crate) action: Option<ActionKind>,
    /// Without its instances. None when something is missing; what is wrong may be left out of it, since a set with
    /// a mistake is refused as a whole.
    policy: Option<Policy>,
}

/// A range of bytes in half the room: a policy may have very many places.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Span {
        let short = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { start: short(range.start), end: short(range.end) }
    }
}

impl From<Span> for Range<usize> {
    fn from(span: Span) -> Range<usize> {
        span.start as usize..span.end as usize
    }
}

impl Draft {
    pub(crate) fn into_policy(self) -> Option<Policy> {
        let instances = self.instances;
        self.policy.map(|policy| Policy { instances, ..policy })
    }
}

pub(crate) fn read(entry: &Entry<'_>, surroundings: &Surroundings, plans: &mut Plans) -> Option<Draft> {
    let title = quoted(entry.key);
    let mut table =
        entry.table(format!("policy {title}"), "write [policy.NAME] and its keys on the lines below")?;
    let name = read_name(entry);
    let account = read_account(&mut table, surroundings.accounts.as_ref());
    let provider = account.as_ref().and_then(|(_, provider)| *provider);
    let product = read_product(&mut table, provider, account.as_ref().map(|(name, _)| name));
    let region = read_region(&mut table, product);
    let (instances, spans) = read_instances(&mut table, product).into_iter().unzip();
    let schedule = read_schedule(&mut table, &surroundings.timezone, plans);
    let action = read_action(&mut table, product);
    let enabled = table.take("enabled").map_or(Some(true), |entry| entry.boolean());
    let terms = read_terms(&mut table, product, action.terms);
    table.refuse_unknown_keys_but_for(key_of_another_table);
    if let (Some((text, schedule_entry)), Some((renew, days_entry))) = (&schedule, &action.renew)
        && enabled != Some(false)
    {
        plans.warn(schedule_entry, days_entry.as_ref(), text, *renew);
    }
    let parts = (name.clone(), account, product, region.clone(), schedule, enabled.zip(terms));
    let policy = match parts {
        (
            Some(name),
            Some((account, _)),
            Some(product),
            Some(region),
            Some((schedule, _)),
            Some((enabled, terms)),
        ) => {
            let instances = Vec::new();
            Some(Policy { name, account, product, region, instances, schedule, enabled, terms })
        }
        _ => None,
    };
    let name_span = entry.key_span.clone().into();
    Some(Draft { title, name, name_span, product, region, instances, spans, action: action.kind, policy })
}

/// A table of a policy that stands apart from it, for what is wrong in it.
pub(crate) fn read_part(entry: &Entry<'_>, part: &str) {
    match part {
        "renew" => drop(read_renew(entry, None)),
        "upgrade" => drop(read_upgrade(entry, None)),
        _ => {}
    }
}

/// Keys that are known, and belong elsewhere.
fn key_of_another_table(key: &str) -> Option<&'static str> {
    match key {
        "months" | "within_days" | "every_fire" => {
            Some("it belongs into `renew`, such as renew = { months = 12, within_days = 15 }")
        }
        "mem_size_mb" | "shards" | "replicas" | "allow_shrink" => {
            Some("it belongs into `upgrade`, such as upgrade = { mem_size_mb = 4096, replicas = 2 }")
        }
        "secret_id" | "secret_key" | "access_key_id" | "secret_access_key" | "token" => Some(
            "keys belong, as references, to an [account.NAME] of renewd.toml; a secret that stood here should be \
             replaced at the cloud",
        ),
        _ => None,
    }
}

fn read_name(entry: &Entry<'_>) -> Option<PolicyName> {
    if entry.is_detached() {
        return None;
    }
    let name = PolicyName::parse(entry.key);
    let refuse = |error| {
        entry.fail_at_key(
            format!("the name of policy {} {error}", quoted(entry.key)),
            "write [policy.NAME] with letters, digits, `-`, `_` and `.`",
        );
    };
    name.map_err(refuse).ok()
}

type Accounts = BTreeMap<AccountName, Option<Provider>>;

fn read_account(
    table: &mut Table<'_>,
    accounts: Option<&Accounts>,
) -> Option<(AccountName, Option<Provider>)> {
    let help = "write account = \"NAME\" of an [account.NAME] in renewd.toml";
    let entry = table.require("account", help)?;
    let text = entry.text_or(help)?;
    let name = match AccountName::parse(text) {
        Ok(name) => name,
        Err(error) => {
            entry.fail(format!("the account name {} {error}", quoted(text)), "name an [account.NAME]");
            return None;
        }
    };
    // Without a readable list every name may be right.
    let Some(accounts) = accounts else { return Some((name, None)) };
    if let Some(provider) = accounts.get(&name) {
        return Some((name, *provider));
    }
    let help = match accounts.is_empty() {
        true => format!("add [account.{name}] to renewd.toml"),
        false => suggestion(text, accounts.keys().map(AccountName::as_str)),
    };
    entry.fail(format!("there is no account {} in renewd.toml", quoted(text)), help);
    None
}

fn read_product(
    table: &mut Table<'_>,
    provider: Option<Provider>,
    account: Option<&AccountName>,
) -> Option<Product> {
    let help = "write for example product = \"redis\"";
    let entry = table.require("product", help)?;
    let text = entry.text_or(help)?;
    let everywhere = || Provider::ALL.into_iter().find_map(|provider| Product::parse(provider, text));
    let own = provider.map_or_else(everywhere, |provider| Product::parse(provider, text));
    if let Some(product) = own {
        if !product.is_built() {
            let built = all_products().filter(|product| product.is_built()).map(Product::as_str);
            let built: Vec<_> = built.collect();
            let message = format!("product `{product}` is not built yet in this version of renewd");
            entry.fail(message, format!("take the policy out until then; built: {}", built.join(", ")));
        }
        return Some(product);
    }
    match (everywhere(), provider, account) {
        (Some(product), Some(provider), Some(account)) => {
            let owner = product.provider();
            let message =
                format!("`{product}` is sold by {owner}, but account `{account}` is one of {provider}");
            let own: Vec<_> = provider.products().iter().map(|product| product.as_str()).collect();
            entry.fail(
                message,
                format!("name an account of {owner}, or a product of {provider}: {}", own.join(", ")),
            );
        }
        _ => {
            let known: Vec<_> = match provider {
                Some(provider) => provider.products().iter().map(|product| product.as_str()).collect(),
                None => all_products().map(Product::as_str).collect(),
            };
            entry.fail(format!("there is no product {}", quoted(text)), suggestion(text, known));
        }
    }
    None
}

fn all_products() -> impl Iterator<Item = Product> {
    Provider::ALL.into_iter().flat_map(|provider| provider.products().iter().copied())
}

fn read_instances(table: &mut Table<'_>, product: Option<Product>) -> Vec<(InstanceId, Span)> {
    let example = product.and_then(|product| product.id_prefixes().first()).copied().unwrap_or("crs-");
    let help = format!("write instances = [\"{example}…\"]");
    let Some(entry) = table.require("instances", &help) else { return Vec::new() };
    let items = entry.items("a list of instance ids", &help);
    if items.as_ref().is_some_and(Vec::is_empty) {
        entry.fail("`instances` is empty", help);
    }
    items.iter().flatten().filter_map(|item| read_instance(item, product)).collect()
}

fn read_instance(item: &Entry<'_>, product: Option<Product>) -> Option<(InstanceId, Span)> {
    let text = item.text()?;
    let id = match InstanceId::parse(text) {
        Ok(id) => id,
        Err(error) => {
            item.fail(
                format!("the instance id {} {error}", quoted(text)),
                "write the id that the console shows",
            );
            return None;
        }
    };
    let Some(product) = product else { return Some((id, item.span().into())) };
    let has_prefix_of = |product: Product| {
        let rest = product.id_prefixes().iter().find_map(|prefix| text.strip_prefix(prefix));
        rest.is_some_and(|rest| !rest.is_empty())
    };
    if has_prefix_of(product) {
        return Some((id, item.span().into()));
    }
    let prefixes: Vec<_> = product.id_prefixes().iter().map(|prefix| format!("`{prefix}`")).collect();
    let mut help = format!("ids of {product} begin with {}", prefixes.join(" or "));
    if let Some(other) = all_products().find(|other| has_prefix_of(*other)) {
        help.push_str(&format!("; this one looks like {other}"));
    }
    let article = if product.as_str().starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    item.fail(format!("{} is not the id of {article} {product} instance", quoted(text)), help);
    None
}

fn read_schedule<'a>(
    table: &mut Table<'a>,
    default_zone: &str,
    plans: &mut Plans,
) -> Option<(ScheduleText, Entry<'a>)> {
    let help = "write for example schedule = \"0 3 * * *\" (minute hour day-of-month month weekday)";
    let entry = table.require("schedule", help);
    let zone_entry = table.take("timezone");
    let zone = match &zone_entry {
        Some(entry) => entry.text_or(ZONE_HELP).and_then(|zone| {
            let checked = plans.check_zone(zone);
            checked.map_err(|error| entry.fail(error.to_string(), error.help())).ok()?;
            Some(zone)
        }),
        None => Some(default_zone),
    };
    let entry = entry?;
    let expression = entry.text_or(help)?.trim();
    if let Err(error) = plans.check_expression(expression) {
        entry.fail(error.to_string(), error.help());
        return None;
    }
    if let Some(Misreading { does, meant }) = dialect::seconds_not_meant(expression) {
        entry.reader.warn(entry.span(), format!("{} {does}", quoted(expression)), meant);
    }
    Some((ScheduleText { expression: expression.to_owned(), zone: zone?.to_owned() }, entry))
}

/// What is known of the action: its kind even when the rest is refused.
#[derive(Default)]
struct ReadAction<'a> {
    kind: Option<ActionKind>,
    terms: Option<Action>,
    /// With the entry that says how near the expiry has to be.
    renew: Option<(Renew, Option<Entry<'a>>)>,
}

fn read_action<'a>(table: &mut Table<'a>, product: Option<Product>) -> ReadAction<'a> {
    match (table.take("renew"), table.take("upgrade")) {
        (Some(renew), None) => {
            let renew = read_renew(&renew, product);
            let terms = renew.as_ref().map(|(renew, _)| Action::Renew(*renew));
            ReadAction { kind: Some(ActionKind::Renew), terms, renew }
        }
        (None, Some(upgrade)) => {
            let terms = read_upgrade(&upgrade, product).map(Action::Upgrade);
            ReadAction { kind: Some(ActionKind::Upgrade), terms, renew: None }
        }
        (Some(renew), Some(upgrade)) => {
            let message = format!("{} has both `renew` and `upgrade`", table.title());
            upgrade.fail_at_key(message, "make two policies of it");
            // For what is wrong in them.
            let _ = (read_renew(&renew, product), read_upgrade(&upgrade, product));
            ReadAction::default()
        }
        (None, None) => {
            table.fail_missing(
                &["renew", "upgrade"],
                "write for example renew = { months = 12, within_days = 15 }",
            );
            ReadAction::default()
        }
    }
}

fn read_renew<'a>(entry: &Entry<'a>, product: Option<Product>) -> Option<(Renew, Option<Entry<'a>>)> {
    let mut table = entry.table("`renew`", "write for example renew = { months = 12, within_days = 15 }")?;
    let months_help = match product {
        Some(product) => format!("{product} is sold for {} months", product.months_on_sale()),
        None => "write for example months = 12".to_owned(),
    };
    let months_entry = table.require("months", &months_help);
    let days_entry = table.take("within_days");
    let fire_entry = table.take("every_fire");
    let every_fire = fire_entry.as_ref().map_or(Some(false), |entry| entry.boolean());
    let within_days = match &days_entry {
        Some(entry) => entry.whole_number(1..=MOST_WITHIN_DAYS),
        None => Some(DEFAULT_WITHIN_DAYS),
    };
    table.refuse_unknown_keys();
    let months = months_entry.and_then(|entry| read_months(&entry, product, &months_help));
    let when = if every_fire? { RenewWhen::EveryFire } else { RenewWhen::WithinDays(within_days?) };
    if let (RenewWhen::EveryFire, Some(days)) = (when, &days_entry) {
        let message = "`within_days` and `every_fire` exclude each other";
        days.fail_at_key(message, "every_fire orders at each firing, however far the expiry is: remove one");
        return None;
    }
    let renew = Renew { months: months?, when };
    warn_if_always_due(days_entry.as_ref(), renew);
    Some((renew, days_entry))
}

fn read_months(entry: &Entry<'_>, product: Option<Product>, help: &str) -> Option<u32> {
    let Some(product) = product else { return entry.whole_number(1..=LONGEST_TERM_MONTHS) };
    // Any number is asked for first, so that the message can speak of what is sold.
    let months = entry.whole_number_or(0..=u32::MAX, help)?;
    if product.sells_months(months) {
        return Some(months);
    }
    entry.fail(format!("{product} is not sold for {}", months_in_words(months)), help);
    None
}

fn warn_if_always_due(days_entry: Option<&Entry<'_>>, renew: Renew) {
    let RenewWhen::WithinDays(days) = renew.when else { return };
    let shortest_term_days = SHORTEST_MONTH_DAYS * renew.months;
    let Some(entry) = days_entry.filter(|_| days > shortest_term_days) else { return };
    entry.reader.warn(
        entry.span(),
        format!(
            "`within_days` is {days}, but {} can last only {shortest_term_days} days: \
            it stays due after each renewal",
            months_in_words(renew.months)
        ),
        format!("write at most {shortest_term_days}"),
    );
}

fn read_upgrade(entry: &Entry<'_>, product: Option<Product>) -> Option<Upgrade> {
    let mut table = entry.table("`upgrade`", "write for example upgrade = { mem_size_mb = 4096 }")?;
    let size = table.require("mem_size_mb", "write the size per shard, such as mem_size_mb = 4096");
    let mem_size_mb = size.and_then(|entry| entry.whole_number(1..=u32::MAX));
    let mut count = |key| match table.take(key) {
        None => Some(None),
        Some(entry) => entry.whole_number(1..=u32::from(u16::MAX)).map(Some),
    };
    let (shards, replicas) = (count("shards"), count("replicas"));
    let allow_shrink = table.take("allow_shrink").map_or(Some(false), |entry| entry.boolean());
    table.refuse_unknown_keys();
    if let Some(product) = product.filter(|product| !product.can_upgrade()) {
        entry.fail_at_key(format!("`{product}` cannot be upgraded by renewd"), "only redis can");
    }
    Some(Upgrade {
        mem_size_mb: mem_size_mb?,
        shards: shards?,
        replicas: replicas?,
        allow_shrink: allow_shrink?,
    })
}

fn read_terms(table: &mut Table<'_>, product: Option<Product>, action: Option<Action>) -> Option<Terms> {
    let max_price = match table.take("max_price_cny") {
        None => Some(None),
        Some(entry) => read_amount(&entry).inspect(|price| warn_if_free(&entry, *price)).map(Some),
    };
    let auto_renew_choices = [("skip", OnAutoRenew::Skip), ("renew", OnAutoRenew::Renew)];
    let on_auto_renew = table
        .take("on_auto_renew")
        .map_or(Some(OnAutoRenew::default()), |entry| entry.choice(&auto_renew_choices));
    let unknown_choices = [("person", OnUnknown::Person), ("resend", OnUnknown::Resend)];
    let unknown =
        table.take("unknown").map_or(Some(OnUnknown::default()), |entry| entry.choice(&unknown_choices));
    let renew_data_disks =
        table.take("renew_data_disks").map_or(Some(false), |entry| read_data_disks(&entry, product));
    Some(Terms {
        action: action?,
        max_price: max_price?,
        on_auto_renew: on_auto_renew?,
        unknown: unknown?,
        renew_data_disks: renew_data_disks?,
    })
}

fn warn_if_free(entry: &Entry<'_>, price: Fen) {
    if price == Fen::new(0) {
        let help = "write the most that one order may cost, or remove it";
        entry.reader.warn(entry.span(), "`max_price_cny` is 0: nothing is ever ordered", help);
    }
}

/// `1 month`, `12 months`.
pub(crate) fn months_in_words(months: u32) -> String {
    if months == 1 { "1 month".to_owned() } else { format!("{months} months") }
}

fn read_data_disks(entry: &Entry<'_>, product: Option<Product>) -> Option<bool> {
    let wanted = entry.boolean()?;
    let has_disks = product.is_none_or(|product| product == Product::TencentCloud(TencentProduct::Cvm));
    if wanted && !has_disks {
        entry.fail_at_key("`renew_data_disks` is for cvm only", "remove it");
        return None;
    }
    Some(wanted)
}
