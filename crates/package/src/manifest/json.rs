//! A manifest as JSON. What was YAML's alone, tags and numbers in other bases, becomes what JSON has.

use serde_json::{Map, Number, Value as Json};

use crate::yaml::{Node, Value};

/// The whole manifest. Fields that say nothing go, for the reference takes few of them for missing; but in `custom`,
/// which is not ours.
pub(super) fn of(root: &Node) -> Json {
    let Value::Map(entries) = &root.value else { return value(root) };
    let entries = entries.iter().filter(|(_, value)| !value.is_null()).map(|(key, node)| {
        let key = key.text().unwrap_or_default();
        let mut value = value(node);
        if key != "custom" {
            drop_nulls(&mut value);
        }
        if key == "cgroups" {
            name_processors(&mut value);
        }
        (key.to_owned(), value)
    });
    Json::Object(entries.collect())
}

fn value(node: &Node) -> Json {
    let plain = match &node.value {
        Value::Scalar { text, is_plain: false } => Json::String(text.clone()),
        Value::Scalar { text, .. } => scalar(text, node.is_null()),
        Value::List(items) => Json::Array(items.iter().map(value).collect()),
        Value::Map(entries) => {
            let entry = |(key, node): &(Node, Node)| (key.text().unwrap_or_default().to_owned(), value(node));
            Json::Object(entries.iter().map(entry).collect())
        }
    };
    match &node.tag {
        None => plain,
        // `!idle` is no more than the word.
        Some(tag) if node.is_null() => Json::String(tag.clone()),
        Some(tag) => Json::Object(Map::from_iter([(tag.clone(), plain)])),
    }
}

fn scalar(text: &str, is_null: bool) -> Json {
    if is_null {
        return Json::Null;
    }
    match text {
        "true" | "True" | "TRUE" => return Json::Bool(true),
        "false" | "False" | "FALSE" => return Json::Bool(false),
        _ => {}
    }
    let number = crate::field::integer(text).and_then(Number::from_i128);
    let number = number.or_else(|| crate::field::float(text).and_then(Number::from_f64));
    number.map_or_else(|| Json::String(text.to_owned()), Json::Number)
}

fn drop_nulls(value: &mut Json) {
    match value {
        Json::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            entries.values_mut().for_each(drop_nulls);
        }
        Json::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// `cpus: 0` is accepted here, and is a text.
fn name_processors(cgroups: &mut Json) {
    for name in ["cpus", "mems"] {
        if let Some(value) = cgroups.pointer_mut(&format!("/cpu/{name}"))
            && !value.is_string()
        {
            *value = Json::String(value.to_string());
        }
    }
}
