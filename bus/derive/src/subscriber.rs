//! `#[subscriber]` and `#[handles]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericArgument, ImplItem, ImplItemFn, ItemImpl, PathArguments, Result, Type};

pub(crate) fn expand(arguments: &TokenStream, mut block: ItemImpl) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new(arguments.span(), "#[subscriber] takes no arguments"));
    }
    if let Some((_, path, _)) = &block.trait_ {
        return Err(Error::new(path.span(), "#[subscriber] goes on the `impl` block of the type itself"));
    }
    let handlers = take_handlers(&mut block)?;
    let calls = handlers.iter().map(Handler::call);
    let types = handlers.iter().map(|handler| &handler.event);
    let subscriber = &block.self_ty;
    let (generics, _, conditions) = block.generics.split_for_impl();
    Ok(quote! {
        #block

        #[automatically_derived]
        impl #generics ::rehearsal_bus::EventSubscriber for #subscriber #conditions {
            fn subscribed_to(&self) -> ::std::vec::Vec<::rehearsal_bus::EventType> {
                ::std::vec::Vec::from([#(::rehearsal_bus::EventType::of::<#types>()),*])
            }

            async fn handle(
                &self,
                event: ::rehearsal_bus::AnyEvent,
                cx: ::rehearsal_bus::Ctx,
            ) -> ::rehearsal_bus::Handled {
                #(#calls)*
                let _ = (&event, &cx);
                ::std::result::Result::Ok(())
            }
        }
    })
}

fn take_handlers(block: &mut ItemImpl) -> Result<Vec<Handler>> {
    let mut handlers: Vec<Handler> = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        let before = method.attrs.len();
        method.attrs.retain(|attribute| !attribute.path().is_ident("handles"));
        if method.attrs.len() == before {
            continue;
        }
        let handler = Handler::read(method)?;
        let text = handler.event.to_token_stream().to_string();
        if handlers.iter().any(|other| other.event.to_token_stream().to_string() == text) {
            return Err(Error::new(handler.event.span(), format!("`{text}` is handled by another method already")));
        }
        handlers.push(handler);
    }
    if handlers.is_empty() {
        return Err(Error::new(block.self_ty.span(), "nothing to subscribe: mark at least one method with #[handles]"));
    }
    Ok(handlers)
}

/// One `#[handles]` method.
struct Handler {
    method: syn::Ident,
    asynchronous: bool,
    event: Type,
    /// How the method wants the event: the expression that makes it from `event: Event<E>`.
    event_argument: TokenStream,
    context_argument: Option<TokenStream>,
}

impl Handler {
    fn read(method: &ImplItemFn) -> Result<Self> {
        let signature = &method.sig;
        let mut inputs = signature.inputs.iter();
        match inputs.next() {
            Some(FnArg::Receiver(receiver)) if receiver.reference.is_some() && receiver.mutability.is_none() => {}
            _ => {
                return Err(Error::new(
                    signature.span(),
                    "a handler takes `&self`: several events may be in hand at once",
                ));
            }
        }
        let expected = "a handler is `fn(&self, event: &E)` or `fn(&self, event: &E, cx: &Ctx)`";
        let (event, event_argument) = match inputs.next() {
            Some(FnArg::Typed(argument)) => event_of(&argument.ty)?,
            _ => return Err(Error::new(signature.span(), expected)),
        };
        let context_argument = match inputs.next() {
            None => None,
            Some(FnArg::Typed(argument)) if matches!(*argument.ty, Type::Reference(_)) => Some(quote!(&cx)),
            Some(_) => Some(quote!(::std::clone::Clone::clone(&cx))),
        };
        if let Some(surplus) = inputs.next() {
            return Err(Error::new(surplus.span(), expected));
        }
        Ok(Self {
            method: signature.ident.clone(),
            asynchronous: signature.asyncness.is_some(),
            event,
            event_argument,
            context_argument,
        })
    }

    fn call(&self) -> TokenStream {
        let Self { method, asynchronous, event, event_argument, context_argument } = self;
        let wait = asynchronous.then(|| quote!(.await));
        quote! {
            if let ::std::option::Option::Some(event) = event.downcast::<#event>() {
                return ::rehearsal_bus::IntoHandled::into_handled(
                    self.#method(#event_argument, #context_argument) #wait
                );
            }
        }
    }
}

/// `&E`, `&Event<E>` or `Event<E>`: the `E`, and the expression that makes such an argument.
fn event_of(argument: &Type) -> Result<(Type, TokenStream)> {
    match argument {
        Type::Reference(reference) if reference.mutability.is_some() => {
            Err(Error::new(argument.span(), "events are shared by all their handlers: take `&E`"))
        }
        Type::Reference(reference) => Ok(match enveloped(&reference.elem) {
            Some(event) => (event, quote!(&event)),
            None => (Type::clone(&reference.elem), quote!(&*event)),
        }),
        _ => match enveloped(argument) {
            Some(event) => Ok((event, quote!(event))),
            None => Err(Error::new(argument.span(), "take the event as `&E`, `&Event<E>` or `Event<E>`")),
        },
    }
}

fn enveloped(argument: &Type) -> Option<Type> {
    let Type::Path(path) = argument else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Event")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(event) if arguments.args.len() == 1 => Some(event.clone()),
        _ => None,
    }
}
