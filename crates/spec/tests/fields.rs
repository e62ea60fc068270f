//! docs/fields.md lists every field that exists, and no other. Who says what exists: the source of the `oci-spec`
//! crate, which others keep, and our own types, which may be ahead of it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test states what it expects")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use syn::{Fields, GenericArgument, Item, ItemStruct, PathArguments, Type};

/// Fields of runtime-spec 1.3 that `oci-spec` 0.10 lacks. A test below fails when it has learned one.
const AHEAD: &[&str] = &["freebsd", "linux.intelRdt.enableCMT", "linux.intelRdt.enableMBM"];

/// Fields that `oci-spec` 0.10 has and the specification has not, with all below them: two that never were on top,
/// and two that it spells in another way.
const MISTAKES: &[&str] =
    &["uidMappings", "gidMappings", "linux.intelRdt.enableCmt", "linux.intelRdt.enableMbm"];

#[test]
fn the_table_has_the_fields_that_exist_and_no_other() {
    let table: BTreeSet<String> = table().into_keys().collect();
    let known = known();
    let lacking: Vec<_> = known.difference(&table).collect();
    let stale: Vec<_> = table.difference(&known).collect();
    assert!(
        lacking.is_empty() && stale.is_empty(),
        "docs/fields.md lacks {lacking:#?} and has stale rows {stale:#?}"
    );
    assert!(known.len() > 250, "only {} fields were found: the walk has lost its way", known.len());
}

#[test]
fn our_types_have_every_field_that_linux_has() {
    let sources = [Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config.rs")];
    let ours = walk(&structs(&sources));
    let foreign = |path: &String| ["solaris", "windows", "vm", "zos", "freebsd"].contains(&first(path));
    let wanted: BTreeSet<String> = known().into_iter().filter(|path| !foreign(path)).collect();
    let lacking: Vec<_> = wanted.difference(&ours).collect();
    let unknown: Vec<_> = ours.difference(&wanted).collect();
    assert!(
        lacking.is_empty() && unknown.is_empty(),
        "config.rs lacks {lacking:#?} and invents {unknown:#?}"
    );
}

#[test]
fn what_we_are_ahead_in_is_still_ahead() {
    let theirs = theirs();
    let caught: Vec<_> = AHEAD.iter().filter(|path| theirs.contains(**path)).collect();
    let mended: Vec<_> = MISTAKES.iter().filter(|path| !theirs.contains(**path)).collect();
    assert!(caught.is_empty() && mended.is_empty(), "oci-spec has learned {caught:?} and mended {mended:?}");
}

#[test]
fn every_row_says_what_happens_and_proves_it() {
    let tests = tests();
    for (field, (happens, proof)) in table() {
        let kind = ["honoured", "refused"].contains(&happens.as_str())
            || happens
                .strip_prefix("accepted, no effect (")
                .is_some_and(|why| why.len() > 1 && why.ends_with(')'));
        assert!(kind, "{field}: {happens:?} is none of the three things that can happen");
        for name in proof.split(", ").map(|name| name.trim_matches('`')) {
            let there = tests.contains(name);
            assert!(there, "{field}: no test is called {name:?}");
        }
    }
}

/// Field, what happens, proof.
fn table() -> BTreeMap<String, (String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fields.md");
    let text = fs::read_to_string(file).expect("the table is there");
    let mut table = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [field, happens, proof] = cells[..] else { panic!("a row has three cells: {row}") };
        let field = field.trim_matches('`').to_owned();
        let twice = table.insert(field, (happens.to_owned(), proof.to_owned()));
        assert!(twice.is_none(), "listed twice: {row}");
    }
    table
}

/// Names of the test functions of this crate (those made by the `refused` macro among them), of the plan's, and of the
/// tests that run containers; `room::file` for a whole file of tests.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests", "../plan/src", "../plan/tests", "../../tests/tests"];
    let mut names = BTreeSet::from(["plan::refuse".to_owned()]);
    assert!(root.join("../plan/tests/refuse.rs").exists());
    for file in folders.iter().flat_map(|folder| files(&root.join(folder))) {
        let text = fs::read_to_string(&file).expect("sources are text");
        for line in text.lines().map(str::trim) {
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            let listed = line.split(':').next().filter(|_| file.ends_with("check/tests.rs"));
            names.extend([name, listed].into_iter().flatten().map(str::to_owned));
        }
    }
    names
}

/// Every field of the specification.
fn known() -> BTreeSet<String> {
    let below = |path: &str, wrong: &str| {
        path.strip_prefix(wrong).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let mut known = theirs();
    known.retain(|path| !MISTAKES.iter().any(|wrong| below(path, wrong)));
    known.extend(AHEAD.iter().map(|path| (*path).to_owned()));
    known
}

fn theirs() -> BTreeSet<String> {
    walk(&structs(&files(&oracle().join("src/runtime"))))
}

/// Where cargo keeps the source of the crate that these tests are built with.
fn oracle() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    let found =
        packages.iter().find(|package| package["name"] == "oci-spec").expect("oci-spec is a dependency");
    let manifest = found["manifest_path"].as_str().expect("it has a manifest");
    Path::new(manifest).parent().expect("it lies in a folder").to_owned()
}

/// All Rust files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

fn structs(sources: &[PathBuf]) -> BTreeMap<String, ItemStruct> {
    let parsed = sources.iter().flat_map(|source| {
        let text = fs::read_to_string(source).expect("sources are text");
        syn::parse_file(&text).expect("sources are Rust").items
    });
    parsed
        .filter_map(|item| match item {
            Item::Struct(item) => Some((item.ident.to_string(), item)),
            _ => None,
        })
        .collect()
}

/// JSON paths of all fields, from `Spec` down. Lists and maps add nothing to a path.
fn walk(structs: &BTreeMap<String, ItemStruct>) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut open = vec![(String::new(), "Spec".to_owned())];
    while let Some((prefix, name)) = open.pop() {
        let Some(item) = structs.get(&name) else { continue };
        let Fields::Named(fields) = &item.fields else { continue };
        let camel = serde(&item.attrs, "rename_all").is_some_and(|style| style == "camelCase");
        for field in &fields.named {
            let ident = field.ident.as_ref().expect("the field is named").to_string();
            let json = serde(&field.attrs, "rename").unwrap_or(if camel { in_camel(&ident) } else { ident });
            let path = if prefix.is_empty() { json } else { format!("{prefix}.{json}") };
            open.push((path.clone(), inner(&field.ty)));
            paths.insert(path);
        }
    }
    paths
}

/// What a field holds, without `Option`, `Vec` and maps around it.
fn inner(of: &Type) -> String {
    let Type::Path(path) = of else { return String::new() };
    let Some(last) = path.path.segments.last() else { return String::new() };
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return last.ident.to_string() };
    match arguments.args.last() {
        Some(GenericArgument::Type(inside)) => inner(inside),
        _ => String::new(),
    }
}

/// The value of a serde attribute such as `rename = "type"`.
fn serde(attributes: &[syn::Attribute], key: &str) -> Option<String> {
    let mut value = None;
    for attribute in attributes.iter().filter(|one| one.path().is_ident("serde")) {
        attribute
            .parse_nested_meta(|meta| {
                if meta.input.peek(syn::Token![=]) {
                    let text: syn::LitStr = meta.value()?.parse()?;
                    if meta.path.is_ident(key) {
                        value = Some(text.value());
                    }
                }
                Ok(())
            })
            .expect("serde attributes are lists");
    }
    value
}

fn in_camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let head = words.next().unwrap_or_default().to_owned();
    words.fold(head, |name, word| {
        let (first, rest) = word.split_at(1.min(word.len()));
        name + &first.to_uppercase() + rest
    })
}

fn first(path: &str) -> &str {
    path.split('.').next().unwrap_or_default()
}

/// Prints the fields that exist, for whoever writes the table: `cargo test -p spec -- --ignored --nocapture`.
#[test]
#[ignore = "prints, proves nothing"]
#[allow(clippy::print_stdout, reason = "printing is what it is for")]
fn print_the_fields() {
    for path in known() {
        println!("| `{path}` |");
    }
}
