//! A strict reader of the OpenMetrics text format, version 1.0.0: what breaks a rule of it is a panic.

use std::collections::{BTreeMap, BTreeSet};

/// What a scrape said.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Name of a family, without suffix, and its type.
    pub families: BTreeMap<String, String>,
    /// Sample with its labels in order of their names, as `name{a="b"}`, and its value.
    pub samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads a scrape.
    ///
    /// # Panics
    /// It is not in the format.
    pub fn read(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
        let mut scrape = Self::default();
        let (mut family, mut units) = (String::new(), BTreeMap::new());
        let mut said: BTreeSet<String> = BTreeSet::new();
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for line in body.split_terminator('\n') {
            if let Some(rest) = line.strip_prefix("# ") {
                let (word, rest) = rest.split_once(' ').expect(line);
                let (name, rest) = rest.split_once(' ').expect(line);
                assert!(is_name(name) && said.insert(format!("{word} {name}")), "{line}");
                if name != family {
                    assert!(!scrape.families.contains_key(name), "a family in two parts: {line}");
                    name.clone_into(&mut family);
                    scrape.families.insert(family.clone(), "unknown".to_owned());
                }
                let has_samples = scrape.samples.keys().any(|sample| is_of(sample, name));
                assert!(!has_samples, "behind its samples: {line}");
                match word {
                    "HELP" => assert!(!rest.is_empty(), "{line}"),
                    "TYPE" => {
                        let known = ["counter", "gauge", "histogram", "info"];
                        assert!(known.contains(&rest), "{line}");
                        scrape.families.insert(family.clone(), rest.to_owned());
                    }
                    "UNIT" => {
                        assert!(name.ends_with(&format!("_{rest}")), "{line}");
                        units.insert(family.clone(), rest.to_owned());
                    }
                    _ => panic!("{line}"),
                }
                continue;
            }
            let Sample { name, labels, value } = Sample::read(line);
            let suffix = name.strip_prefix(&*family).expect(line);
            let kind = scrape.families.get(&family).expect(line);
            let fits = match kind.as_str() {
                "counter" => suffix == "_total" && value >= 0.0,
                "gauge" => suffix.is_empty(),
                "info" => suffix == "_info" && value == 1.0,
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix) && value >= 0.0,
                _ => false,
            };
            assert!(fits && !value.is_nan(), "{kind}: {line}");
            if suffix == "_bucket" {
                let bound = labels.get("le").expect(line);
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                let mut others = labels.clone();
                others.remove("le");
                buckets.entry(key(&family, &others)).or_default().push((bound, value));
            }
            let sample = key(&name, &labels);
            assert!(scrape.samples.insert(sample, value).is_none(), "twice: {line}");
        }
        for name in scrape.families.keys() {
            assert!(said.contains(&format!("HELP {name}")), "{name} has no help");
            assert!(said.contains(&format!("TYPE {name}")), "{name} has no type");
        }
        for (histogram, buckets) in &buckets {
            assert!(buckets.is_sorted_by(|(a, n), (b, m)| a < b && n <= m), "{histogram}");
            let (bound, all) = buckets.last().unwrap();
            assert_eq!(*bound, f64::INFINITY, "{histogram}");
            let (name, labels) = histogram.split_once('{').unwrap_or((histogram, ""));
            let of = |suffix: &str| match labels {
                "" => format!("{name}_{suffix}"),
                labels => format!("{name}_{suffix}{{{labels}"),
            };
            assert_eq!(scrape.samples[&of("count")], *all, "{histogram}");
            assert!(scrape.samples.contains_key(&of("sum")), "{histogram}");
        }
        scrape
    }

    /// A sample by its name and labels; 0 where there is none.
    pub fn value(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or_default()
    }
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Sample {
    fn read(line: &str) -> Self {
        let end = line.find(['{', ' ']).expect(line);
        let (name, mut rest) = line.split_at(end);
        assert!(is_name(name), "{line}");
        let mut labels = BTreeMap::new();
        if let Some(mut inside) = rest.strip_prefix('{') {
            loop {
                let (label, value) = inside.split_once("=\"").expect(line);
                assert!(is_name(label) && !label.contains(':'), "{line}");
                let (value, behind) = quoted(value).expect(line);
                assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
                match behind.strip_prefix(',') {
                    Some(more) => inside = more,
                    None => {
                        rest = behind.strip_prefix('}').expect(line);
                        break;
                    }
                }
            }
        }
        let value = rest.strip_prefix(' ').expect(line);
        assert!(!value.contains(' '), "a timestamp or an exemplar: {line}");
        Self { name: name.to_owned(), labels, value: value.parse().expect(line) }
    }
}

/// What stands before the closing quote, and what behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                char @ ('"' | '\\') => char,
                _ => return None,
            }),
            char => value.push(char),
        }
    }
    None
}

fn key(name: &str, labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return name.to_owned();
    }
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{name}{{{}}}", labels.join(","))
}

fn is_of(sample: &str, family: &str) -> bool {
    let name = sample.split('{').next().unwrap_or_default();
    let suffixes = ["", "_total", "_info", "_bucket", "_sum", "_count"];
    name.strip_prefix(family).is_some_and(|suffix| suffixes.contains(&suffix))
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
}
