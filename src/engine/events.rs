//! One way to log a fact about a job or an order, with the contract's field names.

/// `job_event!(info, "run.skipped", job, { reason = %reason }, "sentence …")`; works for anything with the
/// fields of a job: policy, revision, account, product, region, instance, run.
macro_rules! job_event {
    ($level:ident, $event:literal, $job:expr, { $($fields:tt)* }, $($message:tt)+) => {
        tracing::$level!(
            event = $event,
            policy = %$job.policy,
            revision = $job.revision,
            account = %$job.account,
            provider = %$job.product.provider(),
            product = %$job.product,
            region = %$job.region,
            instance = %$job.instance,
            run = $job.run.0,
            $($fields)*
            $($message)+
        )
    };
}
pub(super) use job_event;

/// As [`job_event`], for an order as the views show it.
macro_rules! order_event {
    ($level:ident, $event:literal, $order:expr, { $($fields:tt)* }, $($message:tt)+) => {
        tracing::$level!(
            event = $event,
            policy = $order.policy,
            revision = $order.policy_revision,
            account = $order.account,
            provider = $order.provider,
            product = $order.product,
            region = $order.region,
            instance = $order.instance,
            run = $order.run_id,
            order_row = $order.id,
            order_id = $order.order_id.as_deref(),
            $($fields)*
            $($message)+
        )
    };
}
pub(super) use order_event;
