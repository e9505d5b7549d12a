//! Reading one table of the file: which keys it may have, and typed, ranged values out of them.
//!
//! A line such as `bound.set("cpu-error", &mut settings.cpu_error_ns, duration(0, MS))?` is all that is said about a
//! key: its name, where it goes, its unit and its range. An absent key leaves the default in place.

use std::fmt::Display;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use truebound_core::units::FreqError;

use super::error::{ConfigError, Document};
use super::quantity::{self, Notation, show_duration, show_frequency};
use super::{ROOT, TABLES};

/// A table of the file, or an empty one if the file has none of that name. All its keys are legal.
pub(crate) struct Table<'a> {
    document: Document<'a>,
    /// "bound" for `[bound]`.
    name: &'static str,
    header: Range<usize>,
    entries: Option<&'a DeTable<'a>>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(crate) fn root(document: Document<'a>, entries: &'a DeTable<'a>) -> Result<Self, ConfigError> {
        Table { document, name: ROOT, header: 0..0, entries: Some(entries) }.with_known_keys()
    }

    /// `[name]` of this table.
    pub(crate) fn table(&self, name: &'static str) -> Result<Table<'a>, ConfigError> {
        let Some(entry) = self.entry(name) else {
            return Ok(Table { document: self.document, name, header: 0..0, entries: None });
        };
        match entry.value.get_ref() {
            DeValue::Table(_) => entry.into_table(name),
            _ => Err(entry.error("not a table", format!("write [{name}] and its keys below"))),
        }
    }

    /// Every `[[name]]` of this table.
    pub(crate) fn tables(&self, name: &'static str) -> Result<Vec<Table<'a>>, ConfigError> {
        let Some(entry) = self.entry(name) else { return Ok(Vec::new()) };
        let not_a_list = |entry: &Entry<'a>| entry.error("not a list of tables", format!("write [[{name}]]"));
        let elements = entry.elements().ok_or_else(|| not_a_list(&entry))?;
        let tables = elements.into_iter().map(|element| match element.value.get_ref() {
            DeValue::Table(_) => element.into_table(name),
            _ => Err(not_a_list(&element)),
        });
        tables.collect()
    }

    /// The value of `key`, if the file has one.
    pub(crate) fn entry(&self, key: &'static str) -> Option<Entry<'a>> {
        debug_assert!(legal_keys(self.name).contains(&key), "{key} is missing in TABLES");
        let value = self.entries?.get(key)?;
        Some(Entry { document: self.document, key, in_list: false, value })
    }

    /// The value of `key` as `read` understands it, if the file has one.
    pub(crate) fn get<T>(
        &self,
        key: &'static str,
        read: impl Fn(&Entry<'a>) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        self.entry(key).as_ref().map(read).transpose()
    }

    /// Puts the value of `key` into `slot`, if the file has one.
    pub(crate) fn set<T, U: From<T>>(
        &self,
        key: &'static str,
        slot: &mut U,
        read: impl Fn(&Entry<'a>) -> Result<T, ConfigError>,
    ) -> Result<(), ConfigError> {
        if let Some(value) = self.get(key, read)? {
            *slot = value.into();
        }
        Ok(())
    }

    /// An error at the header of this table.
    pub(crate) fn error(&self, message: impl Into<String>, fix: impl Into<String>) -> ConfigError {
        self.document.error(self.header.clone(), message.into(), fix)
    }

    fn with_known_keys(self) -> Result<Self, ConfigError> {
        let legal = legal_keys(self.name);
        let unknown = self.entries.iter().flat_map(|entries| entries.keys());
        let unknown = unknown.filter(|key| !legal.contains(&key.get_ref().as_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            None => Ok(self),
            Some(key) => {
                let message = format!("unknown key `{}`{}", key.get_ref().escape_debug(), in_table(self.name));
                Err(self.document.error(key.span(), message, suggestion(self.name, key.get_ref())))
            }
        }
    }
}

fn legal_keys(table: &str) -> &'static [&'static str] {
    TABLES.iter().find(|(name, _)| *name == table).map_or(&[], |(_, keys)| keys)
}

fn in_table(name: &str) -> String {
    match name {
        ROOT => String::new(),
        "source" | "ptp" => format!(" in [[{name}]]"),
        _ => format!(" in [{name}]"),
    }
}

/// What may have been meant by `unknown`, and every legal key.
fn suggestion(table: &str, unknown: &str) -> String {
    let legal = legal_keys(table);
    let legal_list = format!("the keys{} are {}", in_table(table), legal.join(", "));
    let nearest = legal.iter().map(|key| (edits(unknown, key), *key)).min();
    if let Some((distance, key)) = nearest
        && distance <= 1 + key.len() / 4
    {
        return format!("did you mean `{key}`? {legal_list}");
    }
    match TABLES.iter().find(|(_, keys)| keys.contains(&unknown)) {
        Some((ROOT, _)) => format!("`{unknown}` stands above the first [table]; {legal_list}"),
        Some((home, _)) => format!("`{unknown}` belongs{}; {legal_list}", in_table(home)),
        None => legal_list,
    }
}

/// How many characters to insert, delete or replace to get from `a` to `b` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}

/// A value with its key.
#[derive(Clone)]
pub(crate) struct Entry<'a> {
    document: Document<'a>,
    key: &'static str,
    in_list: bool,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Entry<'a> {
    /// This value is refused.
    pub(crate) fn error(&self, why: impl Display, fix: impl Into<String>) -> ConfigError {
        let span = self.value.span();
        let written = self.document.slice(span.clone());
        let written: String = written.lines().next().unwrap_or("").chars().take(60).collect();
        let (key, written) = (self.key, written.escape_debug().to_string().replace("\\\"", "\""));
        let what = match self.value.get_ref() {
            DeValue::Table(_) => format!("`{key}`"),
            _ if self.in_list => format!("`{written}` in `{key}`"),
            _ => format!("`{key} = {written}`"),
        };
        self.document.error(span, format!("{what}: {why}"), fix)
    }

    /// The line on which the value begins, from 1.
    pub(crate) fn line(&self) -> usize {
        self.document.line_of(self.value.span().start)
    }

    /// The elements of a list.
    fn elements(&self) -> Option<Vec<Entry<'a>>> {
        let element = |value| Entry { document: self.document, key: self.key, in_list: true, value };
        Some(self.value.get_ref().as_array()?.iter().map(element).collect())
    }

    fn into_table(self, name: &'static str) -> Result<Table<'a>, ConfigError> {
        let entries = self.value.get_ref().as_table();
        Table { document: self.document, name, header: self.value.span(), entries }.with_known_keys()
    }

    fn wrong_type(&self, expected: &str, fix: &str) -> ConfigError {
        let article = if matches!(self.value.get_ref(), DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
        self.error(format!("expected {expected}, found {article} {}", self.value.get_ref().type_str()), fix)
    }

    fn out_of_range(&self, min: impl Display, max: impl Display) -> ConfigError {
        self.error("out of range", format!("use {min} to {max}"))
    }

    /// What `parse` makes of the text.
    pub(crate) fn quantity<T>(
        &self,
        notation: &Notation,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let text = self.value.get_ref().as_str().ok_or_else(|| self.wrong_type(notation.noun, notation.usage))?;
        parse(text).map_err(|why| self.error(why, notation.usage))
    }
}

/// `true` or `false`.
pub(crate) fn boolean(entry: &Entry<'_>) -> Result<bool, ConfigError> {
    entry.value.get_ref().as_bool().ok_or_else(|| entry.wrong_type("a boolean", "use true or false, without quotes"))
}

/// A text that is not empty.
pub(crate) fn string<'a>(entry: &Entry<'a>) -> Result<&'a str, ConfigError> {
    let text = entry.value.get_ref().as_str().ok_or_else(|| entry.wrong_type("a string", "write it in quotes"))?;
    if text.is_empty() { Err(entry.error("empty", "remove the line or give a value")) } else { Ok(text) }
}

/// A path.
pub(crate) fn path(entry: &Entry<'_>) -> Result<PathBuf, ConfigError> {
    string(entry).map(PathBuf::from)
}

/// A name that can stand in a line of log.
pub(crate) fn word(entry: &Entry<'_>) -> Result<String, ConfigError> {
    let text = string(entry)?;
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=');
    if text.chars().count() > 64 || text.contains(bad) {
        return Err(entry.error("not a name", "use up to 64 characters without spaces, quotes or `=`"));
    }
    Ok(text.to_owned())
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(legal: &[(&'static str, T)]) -> impl Fn(&Entry<'_>) -> Result<T, ConfigError> {
    move |entry| {
        let words: Vec<String> = legal.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let fix = format!("use {}", words.join(", "));
        let text = entry.value.get_ref().as_str().ok_or_else(|| entry.wrong_type("a string", &fix))?;
        let found = legal.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| entry.error("unknown value", &fix))
    }
}

/// A whole number from `min` to `max`.
pub(crate) fn integer<T>(min: T, max: T) -> impl Fn(&Entry<'_>) -> Result<T, ConfigError>
where
    T: TryFrom<i64> + PartialOrd + Display + Copy,
{
    move |entry| {
        let number = entry.value.get_ref().as_integer();
        let number = number.ok_or_else(|| entry.wrong_type("an integer", "write a whole number without quotes"))?;
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|value| T::try_from(value).ok());
        value.filter(|value| (min..=max).contains(value)).ok_or_else(|| entry.out_of_range(min, max))
    }
}

/// A duration from `min` to `max`, all in ns.
pub(crate) fn duration(min: i64, max: i64) -> impl Fn(&Entry<'_>) -> Result<i64, ConfigError> {
    move |entry| {
        let ns = entry.quantity(&quantity::DURATION, quantity::duration_ns)?;
        let shown = || entry.out_of_range(show_duration(min), show_duration(max));
        if (min..=max).contains(&ns) { Ok(ns) } else { Err(shown()) }
    }
}

/// A frequency error from `min` to `max`.
pub(crate) fn frequency(min: FreqError, max: FreqError) -> impl Fn(&Entry<'_>) -> Result<FreqError, ConfigError> {
    move |entry| {
        let freq = entry.quantity(&quantity::FREQUENCY, quantity::frequency)?;
        let shown = || entry.out_of_range(show_frequency(min), show_frequency(max));
        if (min..=max).contains(&freq) { Ok(freq) } else { Err(shown()) }
    }
}

/// A change of frequency from `min` to `max`, all in 1/s.
pub(crate) fn wander(min: f64, max: f64) -> impl Fn(&Entry<'_>) -> Result<f64, ConfigError> {
    move |entry| {
        let wander = entry.quantity(&quantity::WANDER, quantity::wander_per_s)?;
        let shown = || entry.out_of_range(format!("{min:e}/s"), format!("{max:e}/s"));
        if (min..=max).contains(&wander) { Ok(wander) } else { Err(shown()) }
    }
}

/// A phase noise from 0 to 1 ms/√s, in s/√s.
pub(crate) fn phase_noise(entry: &Entry<'_>) -> Result<f64, ConfigError> {
    let noise = entry.quantity(&quantity::PHASE_NOISE, quantity::phase_noise_s)?;
    let shown = || entry.out_of_range("0ns/sqrt(s)", "1ms/sqrt(s)");
    if (0.0..=1e-3).contains(&noise) { Ok(noise) } else { Err(shown()) }
}

/// A list, each of whose elements is what `read` reads.
pub(crate) fn list<T>(
    read: impl Fn(&Entry<'_>) -> Result<T, ConfigError>,
) -> impl Fn(&Entry<'_>) -> Result<Vec<T>, ConfigError> {
    move |entry| {
        let elements = entry.elements().ok_or_else(|| entry.wrong_type("a list", "write it in [ ]"))?;
        elements.iter().map(&read).collect()
    }
}
