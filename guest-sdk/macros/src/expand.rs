//! From a handler to a handler plus its export. Refuses, at the token that is wrong, what the SDK could not call.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, Safety, Type};

/// A handler that was refused is kept as it was written, so that the compiler reports what else it finds in it and
/// not a missing function on top.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match parse(arguments, item.clone()) {
        Ok(handler) => {
            let export = export(&handler);
            quote! { #item #export }
        }
        Err(error) => {
            let error = error.into_compile_error();
            quote! { #item #error }
        }
    }
}

struct Handler {
    function: ItemFn,
    connection: Type,
    outcome: Type,
}

fn parse(arguments: TokenStream, item: TokenStream) -> Result<Handler> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "`handler` takes no arguments"));
    }
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        Error::new(error.span(), format!("`handler` belongs on a function such as `fn handle_request(connection: Connection) -> std::io::Result<()>`: {error}"))
    })?;
    let signature = &function.sig;

    let unsupported = [
        signature.constness.map(|token| ("const", token.span())),
        matches!(signature.safety, Safety::Unsafe(_)).then(|| ("unsafe", signature.safety.span())),
        signature.abi.as_ref().map(|token| ("extern", token.span())),
        signature.variadic.as_ref().map(|token| ("variadic", token.span())),
    ];
    if let Some((word, span)) = unsupported.into_iter().flatten().next() {
        return Err(Error::new(span, format!("a handler cannot be `{word}`: the host calls it through the SDK")));
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        return Err(Error::new_spanned(&signature.generics, "a handler cannot be generic: a plugin exports exactly one function"));
    }

    let mut inputs = signature.inputs.iter();
    let connection = match (inputs.next(), inputs.next()) {
        (Some(FnArg::Typed(argument)), None) => (*argument.ty).clone(),
        (Some(FnArg::Receiver(receiver)), _) => {
            return Err(Error::new_spanned(receiver, "a handler is a free function: it takes `connection: Connection` and no `self`"));
        }
        (None, _) => {
            return Err(Error::new(signature.paren_token.span.join(), "a handler takes one argument, `connection: Connection`"));
        }
        (Some(_), Some(second)) => {
            return Err(Error::new_spanned(second, "a handler takes one argument, `connection: Connection`; what is known of the peer are its methods"));
        }
    };
    if let Type::Reference(reference) = &connection {
        return Err(Error::new_spanned(reference, "a handler owns its connection: write `Connection` without the `&`"));
    }
    let outcome = match &signature.output {
        ReturnType::Type(_, outcome) => (**outcome).clone(),
        ReturnType::Default => {
            return Err(Error::new_spanned(&signature.ident, "a handler returns a result, such as `std::io::Result<()>`: an error closes the connection and goes to the host's log"));
        }
    };
    Ok(Handler { function, connection, outcome })
}

/// The checks of types are made for every target, so that `cargo check` and native tests show what is wrong; the export
/// itself exists only in WebAssembly. Each type is named at the place where it was written, and so is an error about it.
fn export(handler: &Handler) -> TokenStream {
    let Handler { function, connection, outcome } = handler;
    let name = &function.sig.ident;
    let (check, export) = match function.sig.asyncness {
        None => (quote!(sync), quote!(__export_plugin)),
        Some(_) => (quote!(asynchronous), quote!(__export_plugin_async)),
    };
    let takes = quote_spanned!(connection.span()=> ::uninterruptible_guest::__private::#check::takes::<#connection>());
    let returns = quote_spanned!(outcome.span()=> ::uninterruptible_guest::__private::returns::<#outcome>());
    quote! {
        const _: () = {
            #takes;
            #returns;
            // Natively nothing else names the handler, unless a test does.
            let _ = #name;
        };
        #[cfg(target_family = "wasm")]
        ::uninterruptible_guest::#export!(#name);
    }
}
