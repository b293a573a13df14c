//! A plan as people read it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Foreseen;
use crate::cli::listing::Listing;
use crate::cli::listing::Room::{Cut, Kept, LeftOut};
use crate::cli::output::{or_dash, plural, yuan};
use crate::cli::times::sentence_in;
use crate::domain::money::Fen;
use crate::engine::NO_SECRET;
use crate::engine::plan::{AccountPlan, Balance, Line, Mark, Plan};

/// More warnings of one kind are counted.
const WARNINGS_SHOWN: usize = 10;

/// The text, and the heads of the columns that it has no room for.
pub(super) fn of(foreseen: &Foreseen, width: Option<usize>) -> (String, Vec<&'static str>) {
    let zone = zone_of(&foreseen.zone);
    let mut text = head(foreseen, &zone);
    let mut table = table(&foreseen.plan, &zone);
    text += &table.text(width);
    text += "\n\n";
    for account in &foreseen.plan.accounts {
        text += &account_words(account, foreseen, &zone);
        text.push('\n');
    }
    for warning in warnings(foreseen) {
        text += &format!("warning: {warning}\n");
    }
    (text + &closing(&foreseen.plan), table.left_out())
}

fn head(foreseen: &Foreseen, zone: &TimeZone) -> String {
    let Foreseen { plan, days, is_offline, .. } = foreseen;
    let plural = if *days == 1 { "" } else { "s" };
    let to_the_minute = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string();
    let (at, through) = (to_the_minute(plan.at), to_the_minute(plan.through));
    let source = if *is_offline { ", by the last looks at the instances" } else { "" };
    format!("plan for {days} day{plural}, from {at} to {through}{source}\n\n")
}

fn table(plan: &Plan, zone: &TimeZone) -> Listing {
    let has_one_account = plan.accounts.len() == 1;
    let columns = [
        ("WHAT", Kept),
        ("INSTANCE", Kept),
        ("POLICY", LeftOut(4)),
        ("ACCOUNT", LeftOut(5)),
        ("WHEN", LeftOut(1)),
        ("EXPIRY", LeftOut(2)),
        ("CNY", LeftOut(3)),
        ("REASON", Cut),
    ];
    // Where it is always the same it tells nothing.
    let is_shown = |head: &str| head != "ACCOUNT" || !has_one_account;
    let shown: Vec<_> = columns.into_iter().filter(|(head, _)| is_shown(head)).collect();
    let mut list = Listing::new(&shown);
    for line in &plan.lines {
        let own_zone = zone_of(&line.zone);
        let cells = [
            mark(line.mark),
            line.instance.to_string(),
            line.policy.to_string(),
            line.account.to_string(),
            line.at.map_or_else(|| or_dash(None), |at| when(at, plan.at, &own_zone, zone)),
            expiry(line, &own_zone),
            price(line),
            reason(line, zone),
        ];
        let cells = columns.iter().zip(cells).filter(|((head, _), _)| is_shown(head));
        list.add(cells.map(|(_, cell)| cell));
    }
    list
}

fn mark(mark: Mark) -> String {
    let sign = match mark {
        Mark::Blocked => '!',
        Mark::Renew => '+',
        Mark::Upgrade => '↑',
        Mark::Skip => '·',
    };
    format!("{sign} {}", mark.as_str())
}

/// In the zone of its policy; how far that is from UTC only where it is not as the head of the plan has it.
fn when(at: Timestamp, now: Timestamp, own_zone: &TimeZone, zone: &TimeZone) -> String {
    if at <= now {
        return "now".to_owned();
    }
    let text = minute(at, own_zone);
    let is_usual = own_zone.to_offset(at) == zone.to_offset(at);
    match text.rsplit_once(' ') {
        Some((local, _)) if is_usual => local.to_owned(),
        _ => text,
    }
}

fn reason(line: &Line, zone: &TimeZone) -> String {
    let text = sentence_in(&line.reason, zone);
    match line.turn_comes_at {
        Some(at) => format!("{text}; its turn comes on {}", minute(at, zone)),
        None => text,
    }
}

fn expiry(line: &Line, zone: &TimeZone) -> String {
    let day = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string();
    match (line.expiry_before, line.expiry_after.filter(|after| line.expiry_before != Some(*after))) {
        (Some(before), Some(after)) => format!("{} → {}", day(before), day(after)),
        (Some(before), None) => day(before),
        (None, _) => or_dash(None),
    }
}

fn price(line: &Line) -> String {
    let cap = line.max_price.filter(|_| line.mark != Mark::Skip).map(|cap| format!("cap {}", yuan(cap)));
    match (line.price.map(yuan), cap) {
        (Some(price), Some(cap)) => format!("{price}, {cap}"),
        (Some(price), None) => price,
        (None, Some(cap)) => cap,
        (None, None) => or_dash(None),
    }
}

fn account_words(account: &AccountPlan, foreseen: &Foreseen, zone: &TimeZone) -> String {
    let AccountPlan { account: name, provider, orders, amount, unpriced, .. } = account;
    let count = |mark| account.lines.get(&mark).copied().unwrap_or(0);
    let mut text = format!(
        "account {name} ({provider}): {} renew, {} upgrade, {} blocked, {} skip\n",
        count(Mark::Renew),
        count(Mark::Upgrade),
        count(Mark::Blocked),
        count(Mark::Skip)
    );
    let mut line = |name: &str, words: String| text += &format!("  {name:<16} {words}\n");
    let days = foreseen.days;
    let due = format!("{}{}", plural(*orders, "order"), money_due(*orders, *amount, *unpriced));
    line(&format!("due in {}", plural(days as usize, "day")), due);
    if account.blocked_amount > Fen::default() {
        line("blocked", format!("{} CNY more", yuan(account.blocked_amount)));
    }
    let day = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string();
    let month = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m").to_string();
    let a_day = account.orders_per_day;
    line("orders_per_day", format!("{} of {} on {}", a_day.most, a_day.limit, day(a_day.on)));
    if let (Some(limit), Some(most)) = (account.cny_per_day.limit, account.cny_per_day.most) {
        let on = day(account.cny_per_day.on);
        line("cny_per_day", format!("{} of {} on {on}", yuan(most), yuan(limit)));
    }
    if let (Some(limit), Some(most)) = (account.cny_per_month.limit, account.cny_per_month.most) {
        let on = month(account.cny_per_month.on);
        line("cny_per_month", format!("{} of {} in {on}", yuan(most), yuan(limit)));
    }
    match &account.balance {
        Balance::Known(balance) => line("balance", format!("{} CNY", yuan(*balance))),
        Balance::Unreadable(failure) => line("balance", format!("not readable: {failure}")),
        Balance::NotAsked => {}
    }
    if let (Some((missing, at)), Balance::Known(balance)) = (account.shortfall, &account.balance) {
        text += &format!(
            "  warning: due in {}: {} CNY, balance {}: top up {} before {}\n",
            plural(days as usize, "day"),
            yuan(*amount),
            yuan(*balance),
            yuan(missing),
            minute(at, zone)
        );
    }
    for trouble in &account.troubles {
        text += &format!("  warning: {}\n", trouble.words);
    }
    text
}

fn money_due(orders: usize, amount: Fen, unpriced: usize) -> String {
    match unpriced {
        _ if orders == 0 => String::new(),
        0 => format!(", {} CNY", yuan(amount)),
        unpriced if unpriced == orders => ", no price known".to_owned(),
        unpriced => format!(", {} CNY and {unpriced} without a known price", yuan(amount)),
    }
}

/// What stands beside the lines: what they rest on, and what comes too late.
pub(super) fn warnings(foreseen: &Foreseen) -> Vec<String> {
    let mut warnings = Vec::new();
    let late: Vec<&Line> = foreseen.plan.lines.iter().filter(|line| line.lapses_first).collect();
    for line in late.iter().take(WARNINGS_SHOWN) {
        let zone = zone_of(&line.zone);
        if let (Some(expiry), Some(at)) = (line.expiry_before, line.at) {
            let (instance, policy, expiry, at) =
                (&line.instance, &line.policy, minute(expiry, &zone), minute(at, &zone));
            warnings.push(format!(
                "{instance} expires on {expiry}, and policy {policy} does nothing before {at}: let it fire earlier, or \
                 `renewd trigger {policy} --instance {instance}`"
            ));
        }
    }
    if late.len() > WARNINGS_SHOWN {
        warnings.push(format!("{} more expire before their policies fire", late.len() - WARNINGS_SHOWN));
    }
    if !foreseen.has_database {
        warnings.push(format!(
            "there is no database at {} yet: nothing is known of earlier orders",
            foreseen.database.display()
        ));
    } else if !foreseen.is_in_force {
        warnings.push(
            "these files are not the set that is in force: `systemctl reload renewd` takes them".to_owned(),
        );
    }
    let mut troubles = foreseen.plan.accounts.iter().flat_map(|account| &account.troubles);
    if troubles.any(|trouble| trouble.failure.code == NO_SECRET) {
        warnings.push(
            "a secret could not be read, see above; one of the form `credential:` is there while the service runs, and \
             for root only: use sudo, or --offline"
                .to_owned(),
        );
    }
    if !foreseen.is_service_running {
        warnings.push("the service does not run: none of this happens until it does".to_owned());
    }
    warnings
}

fn closing(plan: &Plan) -> String {
    let count = |mark| plan.lines.iter().filter(|line| line.mark == mark).count();
    let orders: usize = plan.accounts.iter().map(|account| account.orders).sum();
    let unpriced: usize = plan.accounts.iter().map(|account| account.unpriced).sum();
    let amount: i64 = plan.accounts.iter().map(|account| account.amount.get()).sum();
    format!(
        "{}: {} renew, {} upgrade, {} blocked, {} skip; {}{}",
        plural(plan.lines.len(), "instance"),
        count(Mark::Renew),
        count(Mark::Upgrade),
        count(Mark::Blocked),
        count(Mark::Skip),
        plural(orders, "order"),
        money_due(orders, Fen::new(amount), unpriced)
    )
}

fn zone_of(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

/// To the minute, unless it has seconds.
fn minute(at: Timestamp, zone: &TimeZone) -> String {
    let local = at.to_zoned(zone.clone());
    let format = if local.second() == 0 { "%Y-%m-%d %H:%M %:z" } else { "%Y-%m-%d %H:%M:%S %:z" };
    local.strftime(format).to_string()
}
