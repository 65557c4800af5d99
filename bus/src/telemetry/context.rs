//! The trace context on its way through record headers, in the form of the program's global propagator (W3C's
//! `traceparent` and `tracestate` with the one of OpenTelemetry's SDK).

#[cfg(feature = "otel")]
use opentelemetry::{Context, ContextGuard, global, propagation};

/// Shows the headers that carry the current trace context; none without a propagator.
pub(crate) fn each_trace_header(each: &mut impl FnMut(&str, &str)) {
    #[cfg(feature = "otel")]
    global::get_text_map_propagator(|propagator| {
        let mut carrier = Outgoing(each);
        propagator.inject_context(&Context::current(), &mut carrier);
    });
    #[cfg(not(feature = "otel"))]
    let _ = each;
}

/// While this lives, spans begun on this thread belong to the trace a record came with.
#[must_use = "it is left when this is dropped"]
pub(crate) struct Remote {
    #[cfg(feature = "otel")]
    _entered: ContextGuard,
}

impl Remote {
    /// Enters the context in these headers, if there is one.
    pub(crate) fn enter<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        #[cfg(feature = "otel")]
        {
            let incoming =
                Incoming(headers.filter_map(|(name, value)| Some((name, str::from_utf8(value).ok()?))).collect());
            let context = global::get_text_map_propagator(|propagator| propagator.extract(&incoming));
            Self { _entered: context.attach() }
        }
        #[cfg(not(feature = "otel"))]
        {
            drop(headers);
            Self {}
        }
    }
}

#[cfg(feature = "otel")]
struct Outgoing<'e, E>(&'e mut E);

#[cfg(feature = "otel")]
impl<E: FnMut(&str, &str)> propagation::Injector for Outgoing<'_, E> {
    fn set(&mut self, name: &str, value: String) {
        (self.0)(name, &value);
    }
}

#[cfg(feature = "otel")]
struct Incoming<'a>(Vec<(&'a str, &'a str)>);

#[cfg(feature = "otel")]
impl propagation::Extractor for Incoming<'_> {
    fn get(&self, wanted: &str) -> Option<&str> {
        // The last of a name speaks for the record as it is now.
        self.0.iter().rfind(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}
