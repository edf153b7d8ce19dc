//! Reading a section: a key is known because somebody asks for it, and what nobody asked for is a mistake.
//!
//! So there is no list of keys beside the code that reads them: [`Reading::vocabulary`] has it by reading an empty file.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use crate::value::Secret;

/// One pass over a settings file.
#[derive(Debug)]
pub(super) struct Reading {
    /// Where relative paths begin.
    directory: PathBuf,
    /// By their place in the text.
    problems: RefCell<Vec<(usize, String)>>,
    known: RefCell<Vec<Known>>,
    files: RefCell<Vec<(usize, NamedFile)>>,
    /// Also sections that may come several times are visited once, though there is none.
    visits_everything: bool,
}

/// A key, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// As it is written in brackets; empty for the sections of the file.
    pub(super) section: String,
    pub(super) key: &'static str,
}

/// A file that the settings name, and that has to be there when they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedFile {
    pub(crate) key: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Reading {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            problems: RefCell::default(),
            known: RefCell::default(),
            files: RefCell::default(),
            visits_everything: false,
        }
    }

    /// Every key there is, by having `read` ask for all of them.
    pub(super) fn vocabulary<T>(read: impl FnOnce(&mut Section<'_, '_>) -> T) -> Vec<Known> {
        let reading = Self { visits_everything: true, ..Self::new(Path::new("")) };
        reading.section(String::new(), 0, DeTable::new(), read);
        reading.known.into_inner()
    }

    /// Reads the whole file.
    pub(super) fn root<T>(
        &self,
        table: DeTable<'_>,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        self.section(String::new(), 0, table, read)
    }

    fn section<T>(
        &self,
        name: String,
        at: usize,
        table: DeTable<'_>,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        let mut section = Section { reading: self, name, at, table, asked: Vec::new() };
        let result = read(&mut section);
        section.refuse_the_rest();
        result
    }

    fn complain(&self, at: usize, message: String) {
        self.problems.borrow_mut().push((at, message));
    }

    /// In the order of the text.
    pub(super) fn problems(&self, text: &str) -> Vec<Problem> {
        let mut problems = self.problems.borrow().clone();
        problems.sort_by_key(|(at, _)| *at);
        problems.into_iter().map(|(at, message)| Problem::at(text, at, message)).collect()
    }

    /// The files that were named, with their places.
    pub(super) fn files(&self, text: &str) -> Vec<NamedFile> {
        let place = |(at, file): &(usize, NamedFile)| {
            let Problem { line, column, .. } = Problem::at(text, *at, String::new());
            NamedFile { line, column, ..file.clone() }
        };
        self.files.borrow().iter().map(place).collect()
    }
}

/// One table of the file, while it is read.
#[derive(Debug)]
pub(super) struct Section<'r, 'i> {
    reading: &'r Reading,
    /// As it is written in brackets; empty for the file itself.
    name: String,
    at: usize,
    /// What nobody has asked for yet.
    table: DeTable<'i>,
    asked: Vec<&'static str>,
}

impl<'i> Section<'_, 'i> {
    /// A text, as an argument of the same name takes it.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::String(text) => self.parsed(key, &value, text, parse),
            other => self.wrong_type(key, &value, "text in quotes", other),
        }
    }

    /// Text, or a whole number where an argument may also be just one: a port, seconds, bytes.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        match scalar(value.get_ref()) {
            Some(text) => self.parsed(key, &value, &text, parse),
            None => {
                self.wrong_type(key, &value, "text in quotes or a whole number", value.get_ref())
            }
        }
    }

    /// A whole number.
    pub(super) fn number<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Integer(_) => {
                let text = scalar(value.get_ref()).unwrap_or_default();
                self.parsed(key, &value, &text, parse)
            }
            other => self.wrong_type(key, &value, "a whole number", other),
        }
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(on) => Some(*on),
            other => self.wrong_type(key, &value, "true or false", other),
        }
    }

    /// A text that is shown to nobody.
    pub(super) fn secret<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(Secret) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::String(text) => self.kept(key, &value, text, parse),
            other => self.wrong_type(key, &value, "text in quotes", other),
        }
    }

    /// A file that has to be there. A relative path begins where the settings file lies.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let (start, path) = self.placed_path(None, key)?;
        let file = NamedFile { key, path: path.clone(), line: 0, column: 0 };
        self.reading.files.borrow_mut().push((start, file));
        Some(path)
    }

    /// A file that need not be there yet. A relative path begins where the settings file lies.
    pub(super) fn new_path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.placed_path(None, key).map(|(_, path)| path)
    }

    /// The same, or a word that stands for something else and stays as it is.
    pub(super) fn new_path_or(&mut self, word: &str, key: &'static str) -> Option<PathBuf> {
        self.placed_path(Some(word), key).map(|(_, path)| path)
    }

    fn placed_path(&mut self, word: Option<&str>, key: &'static str) -> Option<(usize, PathBuf)> {
        let value = self.take(key)?;
        let directory = &self.reading.directory;
        let path = match value.get_ref() {
            DeValue::String(text) => self.parsed(key, &value, text, |text| match text {
                "" => Err("give the path of a file".to_owned()),
                text if word == Some(text) => Ok(PathBuf::from(text)),
                text => Ok(directory.join(text)),
            })?,
            other => return self.wrong_type(key, &value, "text in quotes", other),
        };
        Some((value.span().start, path))
    }

    /// Several texts.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.each(key, |section, value| match value.get_ref() {
            DeValue::String(text) => section.parsed(key, value, text, &parse),
            other => section.wrong_type(key, value, "a list of texts in quotes", other),
        })
    }

    /// A text, or a list of several.
    pub(super) fn one_or_more<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        if self.is_list(key) {
            self.texts(key, parse)
        } else {
            self.text(key, parse).into_iter().collect()
        }
    }

    /// Several values, each a text or a whole number.
    pub(super) fn values<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.each(key, |section, value| match scalar(value.get_ref()) {
            Some(text) => section.parsed(key, value, &text, &parse),
            None => {
                let expected = "a list of texts in quotes or whole numbers";
                section.wrong_type(key, value, expected, value.get_ref())
            }
        })
    }

    /// Several texts that are shown to nobody.
    pub(super) fn secrets<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(Secret) -> Result<T, String>,
    ) -> Vec<T> {
        self.each(key, |section, value| match value.get_ref() {
            DeValue::String(text) => section.kept(key, value, text, &parse),
            other => section.wrong_type(key, value, "a list of texts in quotes", other),
        })
    }

    fn each<T>(
        &mut self,
        key: &'static str,
        mut take: impl FnMut(&Self, &Spanned<DeValue<'i>>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.take(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| take(self, item)).collect(),
            other => {
                let nothing = self.wrong_type(key, &value, "a list in brackets", other);
                nothing.into_iter().collect()
            }
        }
    }

    /// A section inside this one; one that is not there is read as one that is empty.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        let name = self.inner(key);
        let Some(value) = self.take(key) else {
            return self.reading.section(name, self.at, DeTable::new(), read);
        };
        let at = value.span().start;
        match value.into_inner() {
            DeValue::Table(table) => self.reading.section(name, at, table, read),
            other => {
                let kind = with_article(&other);
                let message = format!("[{name}] is a section, not {kind}; write it in brackets");
                self.reading.complain(at, message);
                self.reading.section(name, at, DeTable::new(), read)
            }
        }
    }

    /// Whether there is such a key or section, without asking for it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn is_list(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| matches!(value.get_ref(), DeValue::Array(_)))
    }

    /// Sections of one name that may come several times.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_, '_>) -> T,
    ) -> Vec<T> {
        let name = format!("[{}]", self.inner(key));
        if self.reading.visits_everything {
            self.reading.section(name.clone(), self.at, DeTable::new(), &mut read);
        }
        let Some(value) = self.take(key) else { return Vec::new() };
        let refuse = |at: usize| {
            let message = format!("write [{name}] in two pairs of brackets, once for each of them");
            self.reading.complain(at, message);
        };
        let at = value.span().start;
        let DeValue::Array(items) = value.into_inner() else {
            refuse(at);
            return Vec::new();
        };
        let mut results = Vec::new();
        for item in items {
            let at = item.span().start;
            match item.into_inner() {
                DeValue::Table(table) => {
                    results.push(self.reading.section(name.clone(), at, table, &mut read));
                }
                _ => refuse(at),
            }
        }
        results
    }

    /// Sections whose names are somebody's choice.
    pub(super) fn named_tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, &mut Section<'_, '_>) -> T,
    ) -> Vec<T> {
        let outer = self.inner(key);
        if self.reading.visits_everything {
            let name = format!("{outer}.NAME");
            self.reading.section(name, self.at, DeTable::new(), |section| read("NAME", section));
        }
        let Some(value) = self.take(key) else { return Vec::new() };
        let at = value.span().start;
        let DeValue::Table(table) = value.into_inner() else {
            self.reading.complain(at, format!("\"{key}\" are sections: write [{outer}.NAME]"));
            return Vec::new();
        };
        let mut results = Vec::new();
        for (name, value) in table {
            let (at, name) = (name.span().start, name.into_inner());
            match value.into_inner() {
                DeValue::Table(table) => {
                    let title = format!("{outer}.{}", name.escape_debug());
                    let read = |section: &mut Section<'_, '_>| read(&name, section);
                    results.push(self.reading.section(title, at, table, read));
                }
                other => {
                    let kind = with_article(&other);
                    let message = format!(
                        "{name:?} in [{outer}] is {kind}; write a section, [{outer}.{name}]"
                    );
                    self.reading.complain(at, message);
                }
            }
        }
        results
    }

    /// A key that the section cannot do without.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.complain(format!("{} needs \"{key}\"", self.title()));
        }
        read(self, key)
    }

    /// A problem of the whole section.
    pub(super) fn complain(&self, message: String) {
        self.reading.complain(self.at, message);
    }

    /// A problem at a place in the file.
    pub(super) fn complain_about(&self, at: usize, message: String) {
        self.reading.complain(at, message);
    }

    /// Where a key stands that was not asked for yet, or else the section.
    pub(super) fn place(&self, key: &str) -> usize {
        self.table.get_key_value(key).map_or(self.at, |(key, _)| key.span().start)
    }

    /// Where the section stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many problems there are by now.
    pub(super) fn problems(&self) -> usize {
        self.reading.problems.borrow().len()
    }

    /// What the section is called when it is spoken of.
    pub(super) fn title(&self) -> String {
        format!("[{}]", self.name)
    }

    fn inner(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The value of a key, which is known from now on.
    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'i>>> {
        self.asked.push(key);
        self.reading.known.borrow_mut().push(Known { section: self.name.clone(), key });
        self.table.remove(key)
    }

    fn parsed<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'i>>,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                let title = self.title();
                let message = format!("bad value {text:?} for \"{key}\" in {title}: {why}");
                self.complain_at(value, message);
                None
            }
        }
    }

    /// What a secret means; the text stays here.
    fn kept<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'i>>,
        text: &str,
        parse: impl FnOnce(Secret) -> Result<T, String>,
    ) -> Option<T> {
        match parse(Secret::from(text)) {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                self.complain_at(
                    value,
                    format!("bad value for \"{key}\" in {}: {why}", self.title()),
                );
                None
            }
        }
    }

    fn wrong_type<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'i>>,
        expected: &str,
        found: &DeValue<'_>,
    ) -> Option<T> {
        let (title, found) = (self.title(), with_article(found));
        self.complain_at(value, format!("\"{key}\" in {title} must be {expected}, not {found}"));
        None
    }

    fn complain_at(&self, value: &Spanned<DeValue<'i>>, message: String) {
        self.reading.complain(value.span().start, message);
    }

    /// What nobody asked for.
    fn refuse_the_rest(&self) {
        for (key, value) in &self.table {
            let message = self.unknown(key.get_ref(), value.get_ref());
            self.reading.complain(key.span().start, message);
        }
    }

    fn unknown(&self, key: &str, value: &DeValue<'_>) -> String {
        let is_section = matches!(value, DeValue::Table(_));
        let advice = self.advice(key, is_section);
        if is_section {
            format!("unknown section [{}]{advice}", self.inner(&key.escape_debug().to_string()))
        } else if self.name.is_empty() {
            format!("unknown key {key:?} outside of the sections{advice}")
        } else {
            format!("unknown key {key:?} in {}{advice}", self.title())
        }
    }

    /// Where it belongs, or what was meant, or what there is.
    fn advice(&self, key: &str, is_section: bool) -> String {
        let vocabulary = super::vocabulary();
        let homes: Vec<String> = vocabulary
            .iter()
            .filter(|known| known.key == key && !known.section.is_empty())
            .map(|known| format!("[{}]", known.section))
            .collect();
        if !homes.is_empty() {
            return format!("; it belongs in {}", homes.join(" or "));
        }
        match nearest(key, &self.asked) {
            Some(meant) if is_section || self.name.is_empty() => {
                format!("; did you mean [{}]?", self.inner(meant))
            }
            Some(meant) => format!("; did you mean \"{meant}\"?"),
            None => format!("; there are {}", self.asked.join(", ")),
        }
    }
}

/// A text or a whole number, as it would be typed.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            Some(decimal.map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()))
        }
        _ => None,
    }
}

fn with_article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// The one among them that was most likely meant.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let likeness = |known: &str| strsim::jaro(key, known);
    known
        .iter()
        .copied()
        .filter(|known| likeness(known) > ALIKE)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

/// What clap asks of the names it suggests.
const ALIKE: f64 = 0.7;
