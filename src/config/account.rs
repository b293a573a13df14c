//! `[account.NAME]`: whose credentials, whose money, whose quota.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::Offset;

use crate::cloud::Endpoint;
use crate::config::environment::Environment;
use crate::config::reader::{Entry, Table, quoted, suggestion};
use crate::config::secrets::{self, Doubt};
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

/// Where an account's keys come from. The instance role joins here once it is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    Keys { key_id: SecretRef, secret: SecretRef, token: Option<SecretRef> },
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

const SECRET_HELP: &str = "write \"credential:NAME\", \"env:NAME\" or \"file:PATH\" and keep the secret out of \
    this file; one that stood here should be replaced at the cloud";

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
    let endpoint = table.take("endpoint").and_then(|entry| read_endpoint(&entry));
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
    let token = table.take("token").map(|entry| references.read(&entry));
    if let Some(entry) = table.take("credentials") {
        refuse_credentials(&entry, provider);
        return None;
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
        Some(reference) => Some(reference?),
    };
    Some(CredentialSource::Keys { key_id, secret, token })
}

fn refuse_credentials(entry: &Entry<'_>, provider: Option<Provider>) {
    let Some(text) = entry.text() else { return };
    let [key_name, secret_name] = key_names(provider.unwrap_or(Provider::TencentCloud));
    let help = format!("give `{key_name}` and `{secret_name}` instead");
    if text == "instance-role" {
        entry.fail("`credentials = \"instance-role\"` is not built yet in this version of renewd", help);
    } else {
        // Not repeated: it may be a secret.
        entry.fail("`credentials` can only be \"instance-role\", which is not built yet", help);
    }
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
        let message = "`endpoint` is not of the form scheme://host[:port]";
        entry.fail(message, "write for example \"http://127.0.0.1:9500\", without a path or user");
    }
    if endpoint.as_ref().is_some_and(Endpoint::is_plain_to_elsewhere) {
        let message =
            "`endpoint` is plain http to another machine: anyone between can read and replay its requests";
        entry.reader.warn(entry.span(), message, "use https");
    }
    endpoint
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
