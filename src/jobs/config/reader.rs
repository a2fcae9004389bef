//! Reading a TOML document key by key: every value knows its place, and nothing that is wrong hides what follows.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;

/// Where what is wrong with a document is collected.
pub(super) struct Problems<'a> {
    text: &'a str,
    found: RefCell<Vec<Problem>>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, found: RefCell::default() }
    }

    pub(super) fn add(&self, span: Range<usize>, key: &str, message: impl Into<String>) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        self.found.borrow_mut().push(Problem { line, key: key.to_owned(), message: message.into() });
    }

    /// Returns what was found, in the order of the lines.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|problem| problem.line);
        found
    }
}

/// A table, of which each key is to be asked for.
pub(super) struct Section<'a> {
    problems: &'a Problems<'a>,
    /// The keys that lead here; empty for the document.
    key: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    asked: RefCell<BTreeSet<&'static str>>,
}

/// A value.
pub(super) struct Item<'a> {
    problems: &'a Problems<'a>,
    key: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    pub(super) fn document(problems: &'a Problems<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self {
            problems,
            key: String::new(),
            span: table.span(),
            table: table.get_ref(),
            asked: RefCell::default(),
        }
    }

    /// Returns the value of a key.
    pub(super) fn item(&self, name: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().insert(name);
        let (_, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(Item { problems: self.problems, key: self.key_of(name), value })
    }

    /// Returns the value of a key as text that `parse` understands; reports what it does not.
    pub(super) fn parse<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.item(name)?.parse(parse)
    }

    /// Returns the named tables below a key, such as the sources, in the order of the file.
    pub(super) fn named(&self, name: &'static str) -> Vec<(String, Section<'a>)> {
        let Some(section) = self.item(name).and_then(|item| item.section()) else { return Vec::new() };
        let mut named: Vec<_> = section.table.iter().collect();
        named.sort_by_key(|(key, _)| key.span().start);
        let section_of = |(key, value): (&Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| {
            let name = key.get_ref().clone().into_owned();
            let item = Item { problems: section.problems, key: section.key_of(&name), value };
            item.section().map(|found| (name, Section { span: key.span(), ..found }))
        };
        named.into_iter().filter_map(section_of).collect()
    }

    /// Reports something about the table as a whole.
    pub(super) fn report(&self, message: impl Into<String>) {
        self.problems.add(self.span.clone(), &self.key, message);
    }

    /// Reports every key that nobody asked for; tells whether there was none.
    pub(super) fn finish(self) -> bool {
        let asked = self.asked.borrow();
        let mut all_known = true;
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !asked.contains(name) {
                self.problems.add(key.span(), &self.key_of(name), unknown(name, &asked));
                all_known = false;
            }
        }
        all_known
    }

    fn key_of(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) }
    }
}

/// Returns what to say of a key that means nothing.
fn unknown(name: &str, known: &BTreeSet<&'static str>) -> String {
    let near = known.iter().map(|other| (strsim::damerau_levenshtein(name, other), *other)).min();
    match near {
        Some((distance, other)) if distance <= 2 => format!("there is no such key; is it {other}?"),
        _ => {
            let known: Vec<_> = known.iter().copied().collect();
            format!("there is no such key; there are {}", known.join(", "))
        }
    }
}

impl<'a> Item<'a> {
    /// Returns text.
    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.mismatch("text in quotes");
        }
        text
    }

    /// Returns text that `parse` understands.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        parse(self.text()?).map_err(|why| self.report(why)).ok()
    }

    /// Returns the path of a file or folder, which is absolute.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.parse(|text| {
            let path = PathBuf::from(text);
            if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} does not begin with /")) }
        })
    }

    /// Returns a list of texts, not empty.
    pub(super) fn texts(&self) -> Option<Vec<String>> {
        let items = self.list()?;
        let texts: Option<Vec<String>> = items.iter().map(|item| item.text().map(str::to_owned)).collect();
        texts.filter(|texts| {
            if texts.is_empty() {
                self.report("the list is empty");
            }
            !texts.is_empty()
        })
    }

    /// Returns the values of a list.
    pub(super) fn list(&self) -> Option<Vec<Item<'a>>> {
        let Some(array) = self.value.get_ref().as_array() else {
            self.mismatch("a list such as [\"…\", \"…\"]");
            return None;
        };
        let item = |value| Item { problems: self.problems, key: self.key.clone(), value };
        Some(array.iter().map(item).collect())
    }

    /// Returns a whole number.
    pub(super) fn number(&self, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let integer = self.value.get_ref().as_integer();
        let Some(integer) = integer else {
            self.mismatch("a whole number");
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        let fitting = number.filter(|number| range.contains(number));
        if fitting.is_none() {
            self.report(format!("it is a number from {} to {}", range.start(), range.end()));
        }
        fitting
    }

    /// Returns `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        let flag = self.value.get_ref().as_bool();
        if flag.is_none() {
            self.mismatch("true or false");
        }
        flag
    }

    /// Tells whether it is `false`, by which what has a default is switched off.
    pub(super) fn is_off(&self) -> bool {
        self.value.get_ref().as_bool() == Some(false)
    }

    /// Tells whether it is text.
    pub(super) fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Tells whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        self.value.get_ref().is_array()
    }

    /// Returns a table.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        self.section_like("{ key = … }")
    }

    /// Returns a table; says what one looks like where it is none.
    pub(super) fn section_like(&self, example: &str) -> Option<Section<'a>> {
        let Some(table) = self.value.get_ref().as_table() else {
            self.mismatch(&format!("a table such as {example}"));
            return None;
        };
        Some(Section {
            problems: self.problems,
            key: self.key.clone(),
            span: self.value.span(),
            table,
            asked: RefCell::default(),
        })
    }

    /// Reports something about the value.
    pub(super) fn report(&self, message: impl Into<String>) {
        self.problems.add(self.value.span(), &self.key, message);
    }

    fn mismatch(&self, expected: &str) {
        self.report(format!("it is {}, and should be {expected}", self.value.get_ref().type_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_is_reported_with_its_line() {
        let text = "a = 1\n\n[b]\nsourec = 2\nx = \"y\"\n";
        let table = DeTable::parse(text).unwrap();
        let problems = Problems::new(text);
        let document = Section::document(&problems, &table);
        assert_eq!(document.item("a").unwrap().number(0..=9), Some(1));
        let below = document.item("b").unwrap().section().unwrap();
        assert!(below.item("source").is_none());
        below.finish();
        document.finish();
        let told: Vec<String> = problems.finish().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "4: b.sourec: there is no such key; is it source?",
                "5: b.x: there is no such key; there are source"
            ]
        );
    }

    #[test]
    fn a_value_of_another_kind_says_what_it_should_be() {
        let text = "a = 1\nb = \"x\"\nc = 7000\nd = []\ne = \"relative\"";
        let table = DeTable::parse(text).unwrap();
        let problems = Problems::new(text);
        let document = Section::document(&problems, &table);
        assert_eq!(document.item("a").unwrap().text(), None);
        assert_eq!(document.item("b").unwrap().flag(), None);
        assert_eq!(document.item("c").unwrap().number(1..=10), None);
        assert_eq!(document.item("d").unwrap().texts(), None);
        assert_eq!(document.item("e").unwrap().path(), None);
        let told: Vec<String> = problems.finish().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "1: a: it is integer, and should be text in quotes",
                "2: b: it is string, and should be true or false",
                "3: c: it is a number from 1 to 10",
                "4: d: the list is empty",
                "5: e: \"relative\" does not begin with /"
            ]
        );
    }
}
