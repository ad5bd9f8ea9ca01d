//! `#[pyfunction]` and `#[pymethods]` as pyo3 has them, except that an argument which cannot be converted gives an exception
//! that names the operation and the argument: `[conv2d] stride: expected a number >= 0, not -1`.
//!
//! pyo3 converts arguments before the function runs, by their types alone, so neither the function nor its types can know the
//! names. Here every argument is given pyo3's `from_py_with`, with a converter that does the same and knows them.
//! A file of the seam imports these two by name, which hides those of `pyo3::prelude`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{
    Attribute, FnArg, ImplItem, ItemFn, ItemImpl, LitStr, Pat, Signature, parse_macro_input,
    parse_quote,
};

/// pyo3's `#[pyfunction]`, with conversion errors that name the function and the argument.
#[proc_macro_attribute]
pub fn pyfunction(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = Tokens::from(options);
    let mut function = parse_macro_input!(item as ItemFn);
    let mut names = Tokens::new();
    let python = python_name(&function.attrs, &function.sig);
    name_arguments(&mut function.sig, &python, "function", &mut names);
    quote! {
        #names
        #[::pyo3::pyfunction(#options)]
        #function
    }
    .into()
}

/// pyo3's `#[pymethods]`, with conversion errors that name the method and the argument.
///
/// The methods of Python's protocols (`__add__`) stay as they are: there, an argument that cannot be converted means
/// `NotImplemented`, and Python words the error. So do setters, where pyo3 lets a converter borrow nothing.
#[proc_macro_attribute]
pub fn pymethods(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = Tokens::from(options);
    let mut block = parse_macro_input!(item as ItemImpl);
    let mut names = Tokens::new();
    for item in &mut block.items {
        if let ImplItem::Fn(method) = item {
            let python = python_name(&method.attrs, &method.sig);
            let setter = method.attrs.iter().any(|a| a.path().is_ident("setter"));
            if !python.starts_with("__") && !setter {
                name_arguments(&mut method.sig, &python, "method", &mut names);
            }
        }
    }
    quote! {
        #names
        #[::pyo3::pymethods(#options)]
        #block
    }
    .into()
}

/// The name that Python sees: `#[pyo3(name = "...")]`, or the function's own.
fn python_name(attrs: &[Attribute], sig: &Signature) -> String {
    let own = sig.ident.to_string();
    let mut name = own.trim_start_matches("r#").to_owned();
    for attr in attrs {
        if attr.path().is_ident("pyo3") {
            // Other options (`signature = (...)`) hold no nested `name`, and whatever does not parse pyo3 reports itself.
            let _ = attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    name = meta.value()?.parse::<LitStr>()?.value();
                } else if meta.input.peek(syn::Token![=]) {
                    let _: syn::Expr = meta.value()?.parse()?;
                }
                Ok(())
            });
        }
    }
    name
}

/// Gives every argument of a converted type its `from_py_with`, and adds the types that hold the names to `names`.
fn name_arguments(sig: &mut Signature, python: &str, kind: &str, names: &mut Tokens) {
    for input in &mut sig.inputs {
        let FnArg::Typed(argument) = input else {
            continue;
        };
        let Pat::Ident(pattern) = &*argument.pat else {
            continue;
        };
        let ty = &argument.ty;
        // Python's own objects are handed over unconverted.
        let unconverted = quote!(#ty)
            .to_string()
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| ["Python", "Bound", "Borrowed", "PyRef"].contains(&word));
        if unconverted || !argument.attrs.is_empty() {
            continue;
        }
        let name = pattern.ident.to_string();
        let name = name.trim_start_matches("r#");
        let holder = format_ident!("__{kind}_{}_{name}", sig.ident);
        names.extend(quote! {
            #[allow(non_camel_case_types)]
            struct #holder;
            impl crate::convert::Named for #holder {
                const OPERATION: &'static str = #python;
                const ARGUMENT: &'static str = #name;
            }
        });
        argument
            .attrs
            .push(parse_quote!(#[pyo3(from_py_with = crate::convert::named::<_, #holder>)]));
    }
}
