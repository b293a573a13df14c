//! `[account.NAME]`: whose credentials, whose money, whose quota.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::Offset;

use crate::cloud::{Endpoint, Role, RoleName};
use crate::config::environment::Environment;
use crate::config::reader::{Entry, Table, quoted, suggestion};
use crate::config::secrets::{self, Doubt, SECRET_HELP};
use crate::domain::money::Fen;
use crate::domain::product::Provider;
use crate::domain::secret::SecretRef;

#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    pub provider: Provider,
    pub credentials: CredentialSource,
    pub endpoint: Option<Endpoint>,
    /// How the cloud's zoneless times are read.
    pub bare_time_zone: Offset,
    /// Requests per second by API name of [`KNOWN_APIS`]; absent: 90 % of the documented limit.
    pub rate: BTreeMap<String, f64>,
    pub budget: Budget,
}

/// Where an account's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    Keys {
        key_id: SecretRef,
        secret: SecretRef,
        token: Option<SecretRef>,
    },
    /// The role bound to the machine; its name where it has several.
    Role {
        name: Option<RoleName>,
        metadata_endpoint: Option<Endpoint>,
    },
}

/// Limits of one account; reached: no new order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub orders_per_day: Option<u32>,
    pub cny_per_day: Option<Fen>,
    pub cny_per_month: Option<Fen>,
}

/// The APIs whose pace can be set.
pub const KNOWN_APIS: [(Provider, &str); 20] = [
    (Provider::TencentCloud, "redis:RenewInstance"),
    (Provider::TencentCloud, "redis:UpgradeInstance"),
    (Provider::TencentCloud, "redis:DescribeInstances"),
    (Provider::TencentCloud, "redis:InquiryPriceRenewInstance"),
    (Provider::TencentCloud, "redis:InquiryPriceUpgradeInstance"),
    (Provider::TencentCloud, "cvm:RenewInstances"),
    (Provider::TencentCloud, "cvm:DescribeInstances"),
    (Provider::TencentCloud, "cvm:InquiryPriceRenewInstances"),
    (Provider::TencentCloud, "cvm-v2:RenewInstance"),
    (Provider::TencentCloud, "cvm-v2:DescribeInstances"),
    (Provider::TencentCloud, "cvm-v2:InquiryInstancePrice"),
    (Provider::TencentCloud, "billing:DescribeDealsByCond"),
    (Provider::TencentCloud, "billing:DescribeAccountBalance"),
    (Provider::Volcengine, "ecs:RenewInstance"),
    (Provider::Volcengine, "ecs:DescribeInstances"),
    (Provider::Volcengine, "billing:ListAvailableInstances"),
    (Provider::Volcengine, "billing:QueryPriceForRenew"),
    (Provider::Volcengine, "billing:ListOrders"),
    (Provider::Volcengine, "billing:ListOrderProductDetails"),
    (Provider::Volcengine, "billing:QueryBalanceAcct"),
];

/// Above this, a typing error is likelier than such a quota.
const HIGHEST_RATE: f64 = 1000.0;

const MOST_ORDERS_PER_DAY: u32 = 1_000_000;

/// Both clouds print the time of China where they give no zone.
const CHINA: Offset = Offset::constant(8);

/// The names of key id and secret.
pub(crate) fn key_names(provider: Provider) -> [&'static str; 2] {
    match provider {
        Provider::TencentCloud => ["secret_id", "secret_key"],
        Provider::Volcengine => ["access_key_id", "secret_access_key"],
    }
}

/// How references to secrets are read.
#[derive(Clone, Copy)]
pub(crate) struct References<'r> {
    /// What relative paths are relative to.
    pub(crate) folder: &'r Path,
    /// Given, what a reference names is looked at too; else only its form.
    pub(crate) look_in: Option<&'r Environment>,
}

/// What can be read of an account: its provider even when the rest is refused.
pub(crate) fn read(entry: &Entry<'_>, references: References<'_>) -> (Option<Provider>, Option<Account>) {
    let help = "write [account.NAME] and its keys on the lines below";
    let Some(mut table) = entry.table(format!("account {}", quoted(entry.key)), help) else {
        return (None, None);
    };
    let provider = table
        .require("provider", "write provider = \"tencentcloud\" or \"volcengine\"")
        .and_then(|entry| entry.choice(&Provider::ALL.map(|provider| (provider.as_str(), provider))));
    let credentials = read_credentials(&mut table, provider, references);
    let endpoint = table.take("endpoint").and_then(|entry| {
        let endpoint = read_endpoint(&entry);
        endpoint.inspect(|endpoint| warn_of_plain_http(&entry, endpoint))
    });
    let zone = table.take("bare_time_zone").and_then(|entry| read_offset(&entry));
    let rate = table.take("rate").and_then(|entry| read_rates(&entry, provider)).unwrap_or_default();
    let budget = table.take("budget").and_then(|entry| read_budget(&entry)).unwrap_or_default();
    table.refuse_unknown_keys();
    let account = provider.zip(credentials).map(|(provider, credentials)| Account {
        provider,
        credentials,
        endpoint,
        bare_time_zone: zone.unwrap_or(CHINA),
        rate,
        budget,
    });
    (provider, account)
}

/// A table of an account that stands apart from it, for what is wrong in it.
pub(crate) fn read_part(entry: &Entry<'_>, part: &str) {
    match part {
        "rate" => drop(read_rates(entry, None)),
        "budget" => drop(read_budget(entry)),
        _ => {}
    }
}

fn read_credentials(
    table: &mut Table<'_>,
    provider: Option<Provider>,
    references: References<'_>,
) -> Option<CredentialSource> {
    // All are read before any is judged, so that each literal is found at once.
    let mut pairs = Provider::ALL.map(|owner| {
        let entries = key_names(owner).map(|name| table.take(name));
        (owner, entries.map(|entry| entry.map(|entry| (entry.clone(), references.read(&entry)))))
    });
    let token = table.take("token").map(|entry| (entry.clone(), references.read(&entry)));
    let metadata = table.take("metadata_endpoint").map(|entry| (entry.clone(), read_endpoint(&entry)));
    if let Some(entry) = table.take("credentials") {
        let keys = pairs.iter().flat_map(|(_, entries)| entries.iter().flatten()).chain(&token);
        return read_role(&entry, provider, keys.map(|(entry, _)| entry), metadata);
    }
    if let Some((entry, _)) = metadata {
        let message =
            "`metadata_endpoint` is where the keys of a role are asked for, and this account has its own";
        entry.fail_at_key(message, "remove it, or replace the keys by credentials = \"instance-role\"");
    }
    let provider = provider?;
    let [key_name, secret_name] = key_names(provider);
    let is_foreign = |owner: Provider| owner != provider;
    let foreign = pairs
        .iter()
        .filter(|(owner, _)| is_foreign(*owner))
        .flat_map(|(_, entries)| entries.iter().flatten());
    let mut has_foreign = false;
    for (entry, _) in foreign {
        has_foreign = true;
        let message = format!("`{}` is not how {provider} calls its keys", entry.key);
        entry.fail_at_key(message, format!("{provider} has `{key_name}` and `{secret_name}`"));
    }
    let own = pairs.iter_mut().find(|(owner, _)| *owner == provider).map(|(_, entries)| entries)?;
    if !has_foreign {
        for (name, _) in key_names(provider).into_iter().zip(own.iter()).filter(|(_, entry)| entry.is_none())
        {
            let help = format!("write {name} = \"credential:NAME\" (or env:NAME, file:PATH)");
            table.fail_missing(&[name], &help);
        }
    }
    let mut take_own = |place: usize| own[place].take().and_then(|(_, reference)| reference);
    let key_id = take_own(0)?;
    let secret = take_own(1)?;
    let token = match token {
        None => None,
        Some((_, reference)) => Some(reference?),
    };
    Some(CredentialSource::Keys { key_id, secret, token })
}

const ROLE: &str = "instance-role";

/// As it is written.
pub(crate) fn role_words(name: Option<&RoleName>) -> String {
    name.map_or_else(|| ROLE.to_owned(), |name| format!("{ROLE}:{name}"))
}

/// `credentials`, beside which no keys may stand.
fn read_role<'e, 'f: 'e>(
    entry: &Entry<'_>,
    provider: Option<Provider>,
    keys: impl Iterator<Item = &'e Entry<'f>>,
    metadata: Option<(Entry<'_>, Option<Endpoint>)>,
) -> Option<CredentialSource> {
    let mut is_alone = true;
    for key in keys {
        is_alone = false;
        let message = format!("`{}` stands beside `credentials`: an account has keys or a role", key.key);
        key.fail_at_key(
            message,
            "remove `credentials` to sign with these keys, or the keys to sign with the role",
        );
    }
    let name = match entry.text()?.strip_prefix(ROLE).map(|rest| (rest, rest.strip_prefix(':'))) {
        Some(("", _)) => None,
        Some((_, Some(name))) => match RoleName::parse(name) {
            Ok(name) => Some(name),
            Err(error) => {
                let message = format!("`credentials` names {}, which {error}", quoted(name));
                entry.fail(message, "write credentials = \"instance-role:NAME\" with the role's name");
                return None;
            }
        },
        _ => {
            let [key_name, secret_name] = key_names(provider.unwrap_or(Provider::TencentCloud));
            // Not repeated: it may be a secret.
            let message = "`credentials` can only be \"instance-role\" or \"instance-role:NAME\"";
            let help = format!("write one of these, or give `{key_name}` and `{secret_name}` instead");
            entry.fail(message, help);
            return None;
        }
    };
    let metadata_endpoint = match metadata {
        None => None,
        Some((entry, endpoint)) => {
            let endpoint = endpoint?;
            warn_of_far_metadata(&entry, provider?, &endpoint);
            Some(endpoint)
        }
    };
    is_alone.then_some(CredentialSource::Role { name, metadata_endpoint })
}

impl References<'_> {
    fn read(&self, entry: &Entry<'_>) -> Option<SecretRef> {
        let text = entry.text_that_is("a reference to a secret in quotes", SECRET_HELP)?;
        let reference = match SecretRef::parse(text) {
            Ok(SecretRef::File(path)) => SecretRef::File(self.folder.join(path)),
            Ok(reference) => reference,
            Err(_) => {
                let message =
                    format!("`{}` holds a literal where a reference to a secret belongs", entry.key);
                entry.fail(message, SECRET_HELP);
                return None;
            }
        };
        let doubt = self.look_in.and_then(|environment| secrets::doubt(&reference, environment));
        if let Some(Doubt { severity, message, help }) = doubt {
            entry.reader.note(severity, entry.span(), message, help);
        }
        Some(reference)
    }
}

fn read_endpoint(entry: &Entry<'_>) -> Option<Endpoint> {
    let endpoint = Endpoint::parse(entry.text()?).ok();
    if endpoint.is_none() {
        // Not repeated: a URL may carry a password.
        let message = format!("`{}` is not of the form scheme://host[:port]", entry.key);
        entry.fail(message, "write for example \"http://127.0.0.1:9500\", without a path or user");
    }
    endpoint
}

fn warn_of_plain_http(entry: &Entry<'_>, endpoint: &Endpoint) {
    if endpoint.is_plain_to_elsewhere() {
        let message =
            "`endpoint` is plain http to another machine: anyone between can read and replay its requests";
        entry.reader.warn(entry.span(), message, "use https");
    }
}

/// The vendors' own service is plain http too, and answers on the machine itself.
fn warn_of_far_metadata(entry: &Entry<'_>, provider: Provider, endpoint: &Endpoint) {
    if endpoint.is_plain_to_elsewhere() && *endpoint != Role::endpoint_of(provider) {
        let message = "`metadata_endpoint` is plain http to another machine: it hands out keys, and anyone between can read them";
        let help = "leave it out on a machine of the cloud; for the practice cloud use a loopback address";
        entry.reader.warn(entry.span(), message, help);
    }
}

fn read_offset(entry: &Entry<'_>) -> Option<Offset> {
    let text = entry.text()?;
    let offset = parse_offset(text);
    if offset.is_none() {
        let message = format!("`bare_time_zone` is {}, not an offset from UTC", quoted(text));
        entry.fail(message, "write for example \"+08:00\"");
    }
    offset
}

/// `+HH:MM` or `-HH:MM`, up to the offsets that exist.
fn parse_offset(text: &str) -> Option<Offset> {
    const FURTHEST_HOURS: i32 = 14;
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    let two_digits = |part: &str| {
        let is_plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| part.parse::<i32>().ok()).flatten()
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let is_real = minutes < 60 && hours * 60 + minutes <= FURTHEST_HOURS * 60;
    is_real.then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()).flatten()
}

fn read_rates(entry: &Entry<'_>, provider: Option<Provider>) -> Option<BTreeMap<String, f64>> {
    let is_own = |owner: Provider| provider.is_none_or(|provider| provider == owner);
    let known: Vec<_> = KNOWN_APIS.iter().filter(|(owner, _)| is_own(*owner)).map(|(_, api)| *api).collect();
    let mut rates = BTreeMap::new();
    for entry in
        entry.table("`rate`", "write for example rate = { \"redis:RenewInstance\" = 18 }")?.named_entries()
    {
        if !known.contains(&entry.key) {
            let message = format!("{} is not an API whose rate can be set", quoted(entry.key));
            entry.fail_at_key(message, suggestion(entry.key, known.iter().copied()));
            continue;
        }
        let Some(text) = entry.number_text("requests per second") else { continue };
        match text.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate <= HIGHEST_RATE => {
                rates.insert(entry.key.to_owned(), rate);
            }
            _ => entry.fail(
                format!("the rate of `{}` is {}, out of range", entry.key, quoted(&text)),
                format!("write requests per second, above 0 and up to {HIGHEST_RATE}"),
            ),
        }
    }
    Some(rates)
}

fn read_budget(entry: &Entry<'_>) -> Option<Budget> {
    let mut table = entry.table("`budget`", "write for example budget = { orders_per_day = 50 }")?;
    let budget = Budget {
        orders_per_day: table.take("orders_per_day").and_then(|e| e.whole_number(0..=MOST_ORDERS_PER_DAY)),
        cny_per_day: table.take("cny_per_day").and_then(|entry| read_amount(&entry)),
        cny_per_month: table.take("cny_per_month").and_then(|entry| read_amount(&entry)),
    };
    table.refuse_unknown_keys();
    Some(budget)
}

/// An amount in yuan, as a number or as text.
pub(crate) fn read_amount(entry: &Entry<'_>) -> Option<Fen> {
    let text = entry.number_text("an amount in CNY such as 1200 or 1200.50")?;
    match Fen::parse_yuan(text.strip_prefix('+').unwrap_or(&text)) {
        Ok(amount) => Some(amount),
        Err(error) => {
            let message = format!("`{}` is {}, which {error}", entry.key, quoted(&text));
            entry.fail(message, "write yuan with at most two decimals, such as 1200 or 1200.50");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_that_is_called_can_be_given_a_pace() {
        for api in crate::cloud::all_apis() {
            assert!(KNOWN_APIS.iter().any(|(_, name)| *name == api.name), "{}", api.name);
        }
    }

    #[test]
    fn an_offset_is_signed_hours_and_minutes() {
        assert_eq!(parse_offset("+08:00"), Some(CHINA));
        assert_eq!(parse_offset("-03:30").map(|offset| offset.seconds()), Some(-12_600));
        for bad in ["08:00", "+8:00", "+08:60", "+14:01", "+15:00", "UTC", "", "+08", "é"] {
            assert_eq!(parse_offset(bad), None, "{bad}");
        }
    }
}
