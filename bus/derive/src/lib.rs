//! The macros of `rehearsal-bus`. Use them through that crate, which documents and re-exports them.

mod event;
mod subscriber;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a struct or enum a `DomainEvent`.
///
/// ```
/// use rehearsal_bus::DomainEvent;
/// use serde::{Deserialize, Serialize};
/// use serde_json::Value;
///
/// #[derive(DomainEvent, Serialize, Deserialize)]
/// #[event(name = "OrderPlaced", aggregate = "Order", version = 2, alias = "order.placed", upcast = name_unknown)]
/// struct OrderPlaced {
///     #[event(aggregate_id)]
///     order_id: u64,
///     customer_id: String,
/// }
///
/// /// Version 1 had no customers.
/// fn name_unknown(_from_version: u32, mut payload: Value) -> Value {
///     payload["customer_id"] = "unknown".into();
///     payload
/// }
///
/// assert_eq!(OrderPlaced::ALIASES, ["order.placed"]);
/// assert_eq!(OrderPlaced { order_id: 7, customer_id: "c".into() }.aggregate_id().as_str(), "7");
/// ```
///
/// On the type:
/// - `aggregate = "…"`, required: what kind of aggregate it happens to.
/// - `name = "…"`: its name on the wire; the type's own name by default.
/// - `alias = "…"`, repeatable: a further name it may arrive under.
/// - `version = n`: the version of its schema; 1 by default.
/// - `upcast = path`: a `fn(u32, serde_json::Value) -> serde_json::Value` that reads older versions.
/// - `crate = path`: where `rehearsal_bus` is, when you re-export it.
///
/// On one field (of every variant of an enum): `#[event(aggregate_id)]`, the identity of the aggregate; anything
/// that is `Display`. A field that is called `aggregate_id` need not be marked.
#[proc_macro_derive(DomainEvent, attributes(event))]
pub fn derive_domain_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as syn::DeriveInput);
    event::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes the `#[handles]` methods of an `impl` block the handlers of an `EventSubscriber`.
///
/// ```
/// # use rehearsal_bus::prelude::*;
/// # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
/// # #[event(aggregate = "Order")]
/// # struct OrderPlaced { #[event(aggregate_id)] order: u64 }
/// # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
/// # #[event(aggregate = "Order")]
/// # struct OrderShipped { #[event(aggregate_id)] order: u64 }
/// struct OrderStatistics;
///
/// #[subscriber]
/// impl OrderStatistics {
///     #[handles]
///     async fn placed(&self, event: &OrderPlaced, cx: &Ctx) -> Handled {
///         println!("attempt {} at order {}", cx.attempt(), event.order);
///         Ok(())
///     }
///
///     #[handles]
///     fn shipped(&self, event: &Event<OrderShipped>) {
///         println!("order {} left at {}", event.order, event.occurred_at());
///     }
/// }
/// # InMemoryEventBus::new().subscribe_all(OrderStatistics)?;
/// # Ok::<(), BusError>(())
/// ```
///
/// The event comes as `&E`, `&Event<E>` or `Event<E>`; the context, if wanted, as `&Ctx` or `Ctx`. Methods may be
/// async or not, and return nothing or a `Result`. Each type has one method.
#[proc_macro_attribute]
pub fn subscriber(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let block = parse_macro_input!(item as syn::ItemImpl);
    subscriber::expand(&arguments.into(), block).unwrap_or_else(syn::Error::into_compile_error).into()
}
