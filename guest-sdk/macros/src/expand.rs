//! Turns a handler into a handler plus its export. Rejects handlers that the SDK could not call,
//! with an error at the wrong token.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, Safety, Type};

/// A rejected handler stays in the output as it is, so that the compiler reports its other errors
/// and not a missing function as well.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match parse(arguments, item.clone()) {
        Ok(handler) => {
            let export = export(&handler);
            // A function of its own, so that its name is in the log when it traps.
            quote! {
                #[cfg_attr(target_family = "wasm", inline(never))]
                #item
                #export
            }
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
        let example = "fn handle_request(connection: Connection) -> std::io::Result<()>";
        Error::new(error.span(), format!("`handler` belongs on a function such as `{example}`: {error}"))
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
        let message = "a handler cannot be generic: a plugin exports exactly one function";
        return Err(Error::new_spanned(&signature.generics, message));
    }

    let mut inputs = signature.inputs.iter();
    let connection = match (inputs.next(), inputs.next()) {
        (Some(FnArg::Typed(argument)), None) => (*argument.ty).clone(),
        (Some(FnArg::Receiver(receiver)), _) => {
            let message = "a handler is a free function: it takes `connection: Connection` and no `self`";
            return Err(Error::new_spanned(receiver, message));
        }
        (None, _) => {
            let message = "a handler takes one argument, `connection: Connection`";
            return Err(Error::new(signature.paren_token.span.join(), message));
        }
        (Some(_), Some(second)) => {
            let message =
                "a handler takes one argument, `connection: Connection`, whose methods give facts about the peer";
            return Err(Error::new_spanned(second, message));
        }
    };
    if let Type::Reference(reference) = &connection {
        return Err(Error::new_spanned(reference, "a handler owns its connection: write `Connection` without the `&`"));
    }
    let outcome = match &signature.output {
        ReturnType::Type(_, outcome) => (**outcome).clone(),
        ReturnType::Default => {
            let message = "a handler returns a result, such as `std::io::Result<()>`: an error goes to the host's log";
            return Err(Error::new_spanned(&signature.ident, message));
        }
    };
    Ok(Handler { function, connection, outcome })
}

/// The type checks are made for every target, so that `cargo check` and native tests report errors.
/// The export itself exists only in WebAssembly. Each type keeps its place in the source, and so
/// does an error about it.
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
            // Natively, only a test uses the handler.
            let _ = #name;
        };
        #[cfg(target_family = "wasm")]
        ::uninterruptible_guest::#export!(#name);
    }
}

#[cfg(test)]
mod tests {
    use super::{expand, parse};
    use proc_macro2::TokenStream;
    use quote::quote;

    /// The error message, and the text that it points at.
    fn refusal(arguments: &str, item: &str) -> Option<(String, String)> {
        let tokens = |text: &str| text.parse::<TokenStream>().unwrap_or_default();
        let error = parse(tokens(arguments), tokens(item)).err()?;
        Some((error.to_string(), error.span().source_text().unwrap_or_default()))
    }

    #[track_caller]
    fn assert_refused(item: &str, message: &str, at: &str) {
        let Some((found, text)) = refusal("", item) else {
            unreachable!("accepted: {item}");
        };
        assert!(found.starts_with(message), "{item}\n  expected: {message}\n  found:    {found}");
        assert_eq!(text, at, "{item}: {message}");
    }

    #[test]
    fn handlers_are_accepted() {
        for item in [
            "fn handle_request(connection: Connection) -> std::io::Result<()> { Ok(()) }",
            "async fn serve(mut connection: Connection) -> Result<(), String> { Ok(()) }",
            "pub(crate) fn handle(_: uninterruptible_guest::Connection,) -> Result<(), Error> { Ok(()) }",
        ] {
            assert_eq!(refusal("", item), None, "{item}");
        }
    }

    #[test]
    fn an_invalid_handler_is_rejected_at_the_wrong_token() {
        let result = "-> std::io::Result<()> { Ok(()) }";
        let takes = "a handler takes one argument, `connection: Connection`";
        assert_refused(&format!("fn handle() {result}"), takes, "()");
        assert_refused(&format!("fn handle(a: Connection, b: Facts) {result}"), takes, "b: Facts");
        assert_refused(&format!("fn handle(&self) {result}"), "a handler is a free function", "&self");
        assert_refused(
            &format!("fn handle(a: &mut Connection) {result}"),
            "a handler owns its connection",
            "&mut Connection",
        );
        assert_refused(&format!("fn handle<T>(a: T) {result}"), "a handler cannot be generic", "<T>");
        assert_refused(&format!("const fn handle(a: Connection) {result}"), "a handler cannot be `const`", "const");
        assert_refused(&format!("unsafe fn handle(a: Connection) {result}"), "a handler cannot be `unsafe`", "unsafe");
        assert_refused(
            &format!("extern \"C\" fn handle(a: Connection) {result}"),
            "a handler cannot be `extern`",
            "extern \"C\"",
        );
        assert_refused("fn handle(a: Connection) {}", "a handler returns a result", "handle");
        assert_refused("struct Connection;", "`handler` belongs on a function", "struct");
    }

    #[test]
    fn arguments_are_rejected() {
        let item = "fn handle(a: Connection) -> std::io::Result<()> { Ok(()) }";
        assert_eq!(refusal("async", item), Some(("`handler` takes no arguments".to_owned(), "async".to_owned())));
    }

    #[test]
    fn a_rejected_handler_stays_unchanged() {
        let item = quote! { fn handle() {} };
        let expanded = expand(TokenStream::new(), item.clone()).to_string();
        assert!(expanded.starts_with(&item.to_string()), "{expanded}");
        assert!(expanded.contains("compile_error"), "{expanded}");
    }

    #[test]
    fn a_handler_is_exported_to_the_contract_of_its_kind() {
        let handler = quote! { fn handle(connection: Connection) -> std::io::Result<()> { Ok(()) } };
        let expanded = expand(TokenStream::new(), handler.clone()).to_string();
        assert!(
            expanded.contains(&quote!(::uninterruptible_guest::__export_plugin!(handle);).to_string()),
            "{expanded}"
        );
        assert!(expanded.contains(&quote!(__private::sync::takes::<Connection>()).to_string()), "{expanded}");

        let expanded = expand(TokenStream::new(), quote!(async #handler)).to_string();
        assert!(
            expanded.contains(&quote!(::uninterruptible_guest::__export_plugin_async!(handle);).to_string()),
            "{expanded}"
        );
        assert!(expanded.contains(&quote!(__private::asynchronous::takes::<Connection>()).to_string()), "{expanded}");
    }
}
