//! A TOML text as a tree in which every key and value knows the bytes that it was written with.
//!
//! The checks that go beyond one value walk this tree and not the typed value, so that they also speak about files whose other
//! parts are broken: all mistakes in one pass.

use std::ops::Range;

use serde_json::{Map, Number};
use toml_edit::{Document, Item, TableLike, TomlError, Value};

/// Bytes of a text.
pub type Bytes = Range<usize>;

/// One value.
#[derive(Clone, Debug)]
pub struct Tree {
    pub data: Data,
    pub span: Bytes,
}

#[derive(Clone, Debug)]
pub enum Data {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    /// A date or time: no file kind has one.
    Moment(String),
    List(Vec<Tree>),
    Table(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_span: Bytes,
    pub value: Tree,
}

impl Tree {
    pub fn of(document: &Document<String>) -> Self {
        Self { data: table(document.as_table()), span: 0..0 }
    }

    pub fn get(&self, key: &str) -> Option<&Tree> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries of a table; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The values of a list; none of anything else.
    pub fn items(&self) -> &[Tree] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Each text of the list at a key, with its place in the list.
    pub fn texts_at(&self, key: &str) -> impl Iterator<Item = (usize, &str, &Tree)> {
        let items = self.get(key).map_or(&[][..], Tree::items);
        items.iter().enumerate().filter_map(|(at, item)| item.text().map(|text| (at, text, item)))
    }

    /// The value as JSON. What JSON has no word for (dates, infinities) becomes null, which no schema of the lab allows.
    pub fn json(&self) -> serde_json::Value {
        match &self.data {
            Data::Text(text) => text.clone().into(),
            Data::Integer(number) => (*number).into(),
            Data::Float(number) => Number::from_f64(*number).map_or(serde_json::Value::Null, Into::into),
            Data::Flag(flag) => (*flag).into(),
            Data::Moment(_) => serde_json::Value::Null,
            Data::List(items) => items.iter().map(Tree::json).collect(),
            Data::Table(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.value.json())).collect::<Map<_, _>>().into(),
        }
    }

    /// The value in a few words: `the text "q36"`, `an empty list`.
    pub fn describe(&self) -> String {
        match &self.data {
            Data::Text(text) if text.chars().count() > 80 => format!("a text of {} characters", text.chars().count()),
            Data::Text(text) => format!("the text {text:?}"),
            Data::Integer(number) => format!("the number {number}"),
            Data::Float(number) => format!("the number {number}"),
            Data::Flag(flag) => format!("the truth value {flag}"),
            Data::Moment(moment) => format!("the date or time {moment}"),
            Data::List(items) if items.is_empty() => "an empty list".to_owned(),
            Data::List(items) => format!("a list of {}", items.len()),
            Data::Table(_) => "a table".to_owned(),
        }
    }

    /// Follows a JSON pointer as far as it leads. Gives the value, the key path for people, and whether it led to the end.
    pub fn follow(&self, pointer: &str) -> (&Tree, String) {
        let (mut here, mut path) = (self, String::new());
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &here.data {
                Data::List(items) => step.parse::<usize>().ok().and_then(|at| items.get(at)),
                _ => here.get(&step),
            };
            let Some(next) = next else { break };
            match &here.data {
                Data::List(_) => path = format!("{path}[{step}]"),
                _ => path = join(&path, &step),
            }
            here = next;
        }
        (here, path)
    }
}

/// The path of a key in a table that is itself at a path.
pub fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Reads a TOML text: the document for serde and the tree for the checks.
pub fn parse(text: &str) -> Result<(Document<String>, Tree), TomlError> {
    let document = Document::parse(text.to_owned())?;
    let tree = Tree::of(&document);
    Ok((document, tree))
}

fn table(table: &dyn TableLike) -> Data {
    let entries = table.iter().map(|(key, item)| {
        let span = table.key(key).and_then(|key| key.span());
        let value = item_tree(item, span.clone());
        Entry { key: key.to_owned(), key_span: span.unwrap_or_else(|| value.span.clone()), value }
    });
    Data::Table(entries.collect())
}

/// `around`: the bytes to name where the item was not written as one piece (a dotted or implied table).
fn item_tree(item: &Item, around: Option<Bytes>) -> Tree {
    let span = item.span().or(around).unwrap_or(0..0);
    let data = match item {
        Item::None => Data::Table(Vec::new()),
        Item::Value(value) => return value_tree(value, span),
        Item::Table(it) => table(it),
        Item::ArrayOfTables(tables) => {
            Data::List(tables.iter().map(|it| Tree { data: table(it), span: it.span().unwrap_or_else(|| span.clone()) }).collect())
        }
    };
    Tree { data, span }
}

fn value_tree(value: &Value, around: Bytes) -> Tree {
    let span = value.span().unwrap_or(around);
    let data = match value {
        Value::String(it) => Data::Text(it.value().clone()),
        Value::Integer(it) => Data::Integer(*it.value()),
        Value::Float(it) => Data::Float(*it.value()),
        Value::Boolean(it) => Data::Flag(*it.value()),
        Value::Datetime(it) => Data::Moment(it.value().to_string()),
        Value::Array(it) => Data::List(it.iter().map(|value| value_tree(value, span.clone())).collect()),
        Value::InlineTable(it) => table(it),
    };
    Tree { data, span }
}
