//! Numbers for orders that were settled without one: the order list was down, lagged behind, or the order was called
//! not to have happened. The list is asked again for a week, less and less often.

use jiff::{SignedDuration, Timestamp};

use super::calls::CallError;
use super::events::job_event;
use super::order_list::Wanted;
use super::reconcile::{LIST_MARGIN, Reconcile};
use crate::domain::order::{ListedOrder, OrderState, Standing};
use crate::store::{StoreError, Unnumbered};

/// From the intent to the cloud's own time of the order: a request leaves within its signature's life, and two
/// clocks may differ by a minute.
const MADE_WITHIN: SignedDuration = SignedDuration::from_mins(10);
const MADE_EARLY: SignedDuration = SignedDuration::from_secs(60);
const ASKED_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Reconcile {
    pub(super) async fn ask_for_number(&self, order: &Unnumbered) -> Result<(), StoreError> {
        let number = match self.listed_for(order).await {
            Ok(number) => number,
            Err(CallError::Store(error)) => return Err(error),
            Err(CallError::Cloud(_)) => None,
        };
        if let Some(listed) = &number {
            tell(order, listed);
        }
        let number = number.map(|listed| (listed.order_id, listed.amount));
        self.engine.store.note_number(order.row, number, next_time(order, self.engine.now())).await
    }

    async fn listed_for(&self, order: &Unnumbered) -> Result<Option<ListedOrder>, CallError> {
        if !self.account.may_list() {
            return Ok(None);
        }
        let wanted = Wanted {
            product: order.product,
            region: &order.region,
            instance: &order.instance,
            row: order.row,
            order_id: None,
            from: order.intended_at - LIST_MARGIN,
        };
        let listed = self.engine.list_orders(&self.account, wanted).await?;
        let numbers: Vec<_> = listed.iter().map(|listed| &listed.order_id).collect();
        let taken = self.engine.store.known_order_ids(&numbers, order.row).await.map_err(CallError::Store)?;
        let distance = |listed: &ListedOrder| {
            let made_at = listed.created_at.unwrap_or(Timestamp::MAX);
            made_at.duration_since(order.intended_at).abs()
        };
        let fits = |listed: &ListedOrder| is_its_own(order, listed) && !taken.contains(&listed.order_id);
        Ok(listed.into_iter().filter(fits).min_by_key(distance))
    }
}

/// Made when this order was under way, of its kind, and not void: a void one was charged to nobody.
fn is_its_own(order: &Unnumbered, listed: &ListedOrder) -> bool {
    let made_in_time = listed
        .created_at
        .is_some_and(|at| (-MADE_EARLY..=MADE_WITHIN).contains(&at.duration_since(order.intended_at)));
    made_in_time
        && listed.kind.may_be(order.action)
        && (order.months.is_none() || listed.months.is_none() || listed.months == order.months)
        && listed.standing != Standing::Void
}

/// As long again as it is settled; not for ever.
fn next_time(order: &Unnumbered, now: Timestamp) -> Option<Timestamp> {
    let settled_for = now.duration_since(order.settled_at).max(SignedDuration::from_hours(1));
    (settled_for < ASKED_FOR).then(|| now + settled_for)
}

fn tell(order: &Unnumbered, listed: &ListedOrder) {
    let (row, instance, order_id) = (order.row, &order.instance, &listed.order_id);
    if order.state == OrderState::Confirmed {
        job_event!(info, "order.confirmed", order, { order_row = row.0, order_id = order_id.0, },
            "the confirmed order row {row} of {instance} has its number now: {order_id}");
    } else {
        job_event!(error, "order.unknown", order, { order_row = row.0, order_id = order_id.0, },
            "order row {row} of {instance} was settled as not ordered, and the cloud now lists order {order_id} for it: \
             a later order of the instance may be a second payment; compare both in the console");
    }
}
