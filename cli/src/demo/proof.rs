//! The counting behind the finale: every order takes the steps 1, 2, 3 …, and whoever handles one reports it.

use indicatif::HumanCount;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What has been reported.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    orders: BTreeMap<u32, Taken>,
    handled: u64,
    redelivered: u64,
    out_of_order: u64,
}

/// The steps of one order that were reported: all up to one, and those ahead of it.
#[derive(Debug, Default)]
struct Taken {
    up_to: u32,
    ahead: BTreeSet<u32>,
}

impl Ledger {
    /// Somebody handled this step of this order.
    pub(super) fn handled(&mut self, order: u32, step: u32) {
        let taken = self.orders.entry(order).or_default();
        if step <= taken.up_to || taken.ahead.contains(&step) {
            self.redelivered += 1;
            return;
        }
        self.handled += 1;
        if taken.ahead.last().is_some_and(|latest| *latest > step) {
            self.out_of_order += 1;
        }
        taken.ahead.insert(step);
        while taken.ahead.first() == Some(&(taken.up_to + 1)) {
            taken.up_to += 1;
            taken.ahead.pop_first();
        }
    }

    /// How many different steps were handled.
    pub(super) fn distinct(&self) -> u64 {
        self.handled
    }

    /// What it comes to when each of these orders took this many steps.
    pub(super) fn judge(&self, orders: u32, steps: u32) -> Verdict {
        let seen = |order: u32, step: u32| {
            self.orders.get(&order).is_some_and(|taken| step <= taken.up_to || taken.ahead.contains(&step))
        };
        let published = u64::from(orders) * u64::from(steps);
        let all = (1..=orders).flat_map(|order| (1..=steps).map(move |step| (order, step)));
        let mut unseen = all.filter(|(order, step)| !seen(*order, *step));
        let first_lost = unseen.next();
        let lost = first_lost.iter().count() as u64 + unseen.count() as u64;
        let handled = published - lost;
        Verdict {
            published,
            handled,
            lost,
            first_lost,
            unasked: self.handled - handled,
            out_of_order: self.out_of_order,
            redelivered: self.redelivered,
        }
    }
}

/// What became of what was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Events the brokers acknowledged.
    pub(super) published: u64,
    /// How many of them were handled at least once.
    pub(super) handled: u64,
    /// How many were not.
    pub(super) lost: u64,
    /// The first of those: order and step.
    first_lost: Option<(u32, u32)>,
    /// Events handled that nobody published.
    unasked: u64,
    /// Events handled for the first time after a later one of the same order.
    pub(super) out_of_order: u64,
    /// Deliveries of an event that was handled before: at least once is what the bus promises.
    pub(super) redelivered: u64,
}

impl Verdict {
    pub(super) fn holds(&self) -> bool {
        self.lost == 0 && self.unasked == 0 && self.out_of_order == 0
    }

    /// What is wrong, for whoever has to find out why.
    pub(super) fn complaint(&self) -> String {
        let mut complaints = Vec::new();
        if let Some((order, step)) = self.first_lost {
            complaints.push(format!("{} events lost, the first: step {step} of order {order}", self.lost));
        }
        if self.out_of_order > 0 {
            complaints.push(format!("{} events handled after a later one of their order", self.out_of_order));
        }
        if self.unasked > 0 {
            complaints.push(format!("{} events handled that nobody published", self.unasked));
        }
        complaints.join("; ")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, handled, lost, out_of_order, redelivered, .. } = *self;
        let [published, handled, lost, out_of_order, redelivered] =
            [published, handled, lost, out_of_order, redelivered].map(HumanCount);
        write!(
            f,
            "{published} published, {handled} handled, {lost} lost, {out_of_order} out of order ({redelivered} redelivered)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(reports: &[(u32, u32)], orders: u32, steps: u32) -> Verdict {
        let mut ledger = Ledger::default();
        for (order, step) in reports {
            ledger.handled(*order, *step);
        }
        ledger.judge(orders, steps)
    }

    #[test]
    fn everything_once_and_in_order_holds_however_orders_are_mixed() {
        let verdict = judged(&[(1, 1), (2, 1), (2, 2), (1, 2)], 2, 2);

        assert!(verdict.holds());
        assert_eq!(verdict.to_string(), "4 published, 4 handled, 0 lost, 0 out of order (0 redelivered)");
    }

    #[test]
    fn a_redelivery_is_counted_and_allowed() {
        let verdict = judged(&[(1, 1), (1, 2), (1, 1), (1, 2), (1, 3)], 1, 3);

        assert!(verdict.holds());
        assert_eq!(verdict.redelivered, 2);
    }

    #[test]
    fn an_event_nobody_handled_is_lost() {
        let verdict = judged(&[(1, 1), (1, 3)], 1, 3);

        assert!(!verdict.holds());
        assert_eq!(verdict.complaint(), "1 events lost, the first: step 2 of order 1");
    }

    #[test]
    fn a_first_delivery_after_a_later_one_is_out_of_order() {
        let verdict = judged(&[(1, 1), (1, 3), (1, 2)], 1, 3);

        assert!(!verdict.holds());
        assert_eq!((verdict.lost, verdict.out_of_order), (0, 1));
    }

    #[test]
    fn an_event_nobody_published_is_not_a_proof_of_anything() {
        let verdict = judged(&[(1, 1), (7, 1)], 1, 1);

        assert!(!verdict.holds());
        assert_eq!(verdict.complaint(), "1 events handled that nobody published");
    }
}
