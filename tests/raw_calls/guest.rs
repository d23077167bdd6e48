//! The guest as a component, made of its text by `wit-component`, as toolchains make theirs.

use super::imports::{Differs, Import};
use crate::harness::root;
use std::fmt::Write;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The component.
pub fn component(imports: &[Import]) -> Vec<u8> {
    let mut module = wat::parse_str(text(imports)).unwrap();
    let mut resolve = Resolve::default();
    resolve.push_dir(root().join("wit/0.2")).unwrap();
    let package = resolve.push_source("world.wit", include_str!("world.wit")).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// The code of an import in a script.
pub fn code(imports: &[Import], interface: &str, name: &str) -> usize {
    let found = imports.iter().position(|import| import.interface.contains(interface) && import.name.ends_with(name));
    found.unwrap_or_else(|| panic!("no import {interface} {name}"))
}

fn text(imports: &[Import]) -> String {
    let (mut declared, mut calls, mut facts) = (String::new(), String::new(), String::new());
    for (code, import) in imports.iter().enumerate() {
        let Import { interface, name, .. } = import;
        let parameters: Vec<_> = import.parameters().collect();
        let result = import.result.map(|result| format!("(result {result})")).unwrap_or_default();
        writeln!(
            declared,
            "(import \"{interface}\" \"{name}\" (func $import{code} (param {}) {result}))",
            parameters.join(" ")
        )
        .unwrap();
        let arguments: String = parameters
            .iter()
            .zip(["$a", "$b", "$c", "$d"])
            .map(|(ty, local)| match *ty {
                "i32" => format!("(i32.wrap_i64 (local.get {local})) "),
                _ => format!("(local.get {local}) "),
            })
            .collect();
        let call = format!("(call $import{code} {arguments})");
        let call = match import.result {
            None => call,
            Some("i32") => format!("(return (i64.extend_i32_u {call}))"),
            Some(_) => format!("(return {call})"),
        };
        writeln!(calls, "(if (i32.eq (local.get $code) (i32.const {code})) (then {call}))").unwrap();
        let mut known = String::new();
        if import.has_return_area() {
            let local = ["$a", "$b", "$c", "$d"][parameters.len() - 1];
            write!(
                known,
                "(local.set $return (i32.wrap_i64 (local.get {local}))) (local.set $has-return (i32.const 1))"
            )
            .unwrap();
        }
        if let Some(list) = import.list {
            write!(known, "(local.set $list (i32.const {list}))").unwrap();
        }
        if import.differs != Differs::Nothing {
            write!(known, "(local.set $mask (i32.const {}))", import.differs as u8).unwrap();
        }
        match *name {
            "[method]pollable.block" => {
                known.push_str("(local.set $skips (call $is-never (i32.wrap_i64 (local.get $a))))");
            }
            "poll" => known.push_str(
                "(local.set $skips (call $all-never (i32.wrap_i64 (local.get $a)) (i32.wrap_i64 (local.get $b))))",
            ),
            _ => {}
        }
        writeln!(facts, "(if (i32.eq (local.get $code) (i32.const {code})) (then {known}))").unwrap();
    }
    let mut text = include_str!("guest.wat").to_owned();
    for (place, content) in [("{imports}", declared), ("{calls}", calls), ("{facts}", facts)] {
        text = text.replace(place, &content);
    }
    for (place, interface, name) in [
        ("{drop-pollable}", "poll", "drop]pollable"),
        ("{drop-output}", "streams", "drop]output-stream"),
        ("{drain}", "drain", "subscribe"),
        ("{instant}", "monotonic-clock", "subscribe-instant"),
        ("{duration}", "monotonic-clock", "subscribe-duration"),
    ] {
        text = text.replace(place, &code(imports, interface, name).to_string());
    }
    for (place, interface, name) in [
        ("$monotonic-clock.now", "monotonic-clock", "now"),
        ("$wall-clock.now", "wall-clock", "now"),
        ("$drop-pollable", "poll", "drop]pollable"),
        ("$drop-error", "error", "drop]error"),
        ("$flush", "streams", "stream.flush"),
        ("$blocking-read", "streams", ".blocking-read"),
        ("$blocking-write-and-flush", "streams", ".blocking-write-and-flush"),
    ] {
        text = text.replace(&format!("(call {place} "), &format!("(call $import{} ", code(imports, interface, name)));
        text = text.replace(&format!("(call {place})"), &format!("(call $import{})", code(imports, interface, name)));
    }
    text
}
