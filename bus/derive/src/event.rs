//! `#[derive(DomainEvent)]`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Ident, LitInt, LitStr, Member, Path, Result};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let about = About::read(input)?;
    let aggregate_id = aggregate_id(input, &about.bus)?;
    let About { bus, name, aggregate, version, aliases, upcast } = &about;
    let upcast = upcast.as_ref().map(|path| {
        quote! {
            fn upcast(from_version: u32, payload: #bus::__private::Value) -> #bus::__private::Value {
                #path(from_version, payload)
            }
        }
    });
    let ident = &input.ident;
    let (generics, arguments, conditions) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics #bus::DomainEvent for #ident #arguments #conditions {
            const EVENT_TYPE: &'static str = #name;
            const AGGREGATE_TYPE: &'static str = #aggregate;
            const VERSION: u32 = #version;
            const ALIASES: &'static [&'static str] = &[#(#aliases),*];

            fn aggregate_id(&self) -> #bus::AggregateId {
                #aggregate_id
            }

            #upcast
        }
    })
}

/// What `#[event(…)]` on the type says.
struct About {
    bus: Path,
    name: LitStr,
    aggregate: LitStr,
    version: LitInt,
    aliases: Vec<LitStr>,
    upcast: Option<Path>,
}

impl About {
    fn read(input: &DeriveInput) -> Result<Self> {
        let (mut bus, mut name, mut aggregate, mut version, mut upcast) = (None, None, None, None, None);
        let mut aliases = Vec::new();
        for attribute in event_attributes(&input.attrs) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    set_once(&mut name, non_empty(meta.value()?.parse()?)?, &meta)
                } else if meta.path.is_ident("aggregate") {
                    set_once(&mut aggregate, non_empty(meta.value()?.parse()?)?, &meta)
                } else if meta.path.is_ident("version") {
                    set_once(&mut version, positive(meta.value()?.parse()?)?, &meta)
                } else if meta.path.is_ident("alias") {
                    aliases.push(non_empty(meta.value()?.parse()?)?);
                    Ok(())
                } else if meta.path.is_ident("upcast") {
                    set_once(&mut upcast, meta.value()?.parse::<Path>()?, &meta)
                } else if meta.path.is_ident("crate") {
                    set_once(&mut bus, meta.value()?.parse::<Path>()?, &meta)
                } else if meta.path.is_ident("aggregate_id") {
                    Err(meta.error("`aggregate_id` belongs on the field that identifies the aggregate"))
                } else {
                    Err(meta
                        .error("unknown option; expected `name`, `aggregate`, `version`, `alias`, `upcast` or `crate`"))
                }
            })?;
        }
        let aggregate = aggregate.ok_or_else(|| {
            let hint = "say what kind of aggregate this happens to: #[event(aggregate = \"Order\")]";
            Error::new(input.ident.span(), hint)
        })?;
        Ok(Self {
            bus: bus.unwrap_or_else(|| syn::parse_quote!(::rehearsal_bus)),
            name: name.unwrap_or_else(|| LitStr::new(&input.ident.to_string(), input.ident.span())),
            aggregate,
            version: version.unwrap_or_else(|| LitInt::new("1", Span::call_site())),
            aliases,
            upcast,
        })
    }
}

fn event_attributes(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("event"))
}

fn set_once<T>(slot: &mut Option<T>, value: T, meta: &syn::meta::ParseNestedMeta<'_>) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(meta.error("given twice")),
    }
}

fn non_empty(text: LitStr) -> Result<LitStr> {
    if text.value().is_empty() { Err(Error::new(text.span(), "must not be empty")) } else { Ok(text) }
}

fn positive(number: LitInt) -> Result<LitInt> {
    match number.base10_parse::<u32>()? {
        0 => Err(Error::new(number.span(), "versions start at 1")),
        _ => Ok(number),
    }
}

/// The body of `aggregate_id`.
fn aggregate_id(input: &DeriveInput, bus: &Path) -> Result<TokenStream> {
    match &input.data {
        Data::Struct(data) => {
            let member = identifying_field(&data.fields, &input.ident)?;
            Ok(quote!(#bus::AggregateId::new(&self.#member)))
        }
        Data::Enum(data) if data.variants.is_empty() => {
            Err(Error::new(input.ident.span(), "an event without variants can never happen"))
        }
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let member = identifying_field(&variant.fields, &variant.ident)?;
                let name = &variant.ident;
                Ok(quote!(Self::#name { #member: id, .. } => #bus::AggregateId::new(id)))
            });
            let arms = arms.collect::<Result<Vec<_>>>()?;
            Ok(quote!(match self { #(#arms),* }))
        }
        Data::Union(data) => Err(Error::new(data.union_token.span(), "a union cannot be an event")),
    }
}

fn identifying_field(fields: &Fields, owner: &Ident) -> Result<Member> {
    let mut marked = None;
    for (member, field) in fields.members().zip(fields) {
        for attribute in event_attributes(&field.attrs) {
            attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("aggregate_id") {
                    return Err(meta.error("unknown option; expected `aggregate_id`"));
                }
                match marked.replace(member.clone()) {
                    None => Ok(()),
                    Some(_) => Err(meta.error("only one field identifies the aggregate")),
                }
            })?;
        }
    }
    let by_name = || fields.members().find(|member| matches!(member, Member::Named(name) if name == "aggregate_id"));
    marked.or_else(by_name).ok_or_else(|| {
        let hint = format!("mark the field of `{owner}` that identifies the aggregate with #[event(aggregate_id)]");
        Error::new(owner.span(), hint)
    })
}
