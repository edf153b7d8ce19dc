//! A result on its way out: as JSON for programs, as a table for people. One list makes both, so
//! neither says what the other does not.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::latency::Latencies;

/// What a command measured. Names are those of the JSON, and end in their unit.
#[derive(Debug, Default)]
pub struct Report {
    json: Map<String, Value>,
    lines: Vec<(String, String)>,
}

impl Report {
    /// A setting of the run.
    pub fn text(&mut self, name: &str, text: impl Into<String>) {
        let text = text.into();
        self.put(name, json!(text), text);
    }

    /// A whole number.
    pub fn count(&mut self, name: &str, count: u64) {
        self.put(name, json!(count), count.to_string());
    }

    /// Something per second.
    pub fn rate(&mut self, name: &str, per_second: f64) {
        self.put(name, json!(per_second), format!("{per_second:.1}"));
    }

    /// A number that may be small.
    pub fn exact(&mut self, name: &str, number: f64) {
        self.put(name, json!(number), format!("{number:.3}"));
    }

    /// Bytes per second.
    pub fn throughput(&mut self, name: &str, per_second: f64) {
        let text = format!("{:.1} MiB/s  {:.2} Gbit/s", per_second / MIB, per_second * 8.0 / 1e9);
        self.json.insert(format!("{name}_bytes_per_second"), json!(per_second));
        self.lines.push((name.to_owned(), text));
    }

    /// A histogram, if anything is in it.
    pub fn latencies(&mut self, latencies: &Latencies) {
        self.count("measured", latencies.count());
        if latencies.count() == 0 {
            return;
        }
        self.json.insert("latency_us".to_owned(), latencies.json());
        for (name, time) in latencies.points() {
            self.lines.push((format!("latency {name}"), readable(time)));
        }
    }

    /// What happened how often, if anything did; the name is a plural.
    pub fn counts(&mut self, name: &str, counts: &BTreeMap<String, u64>) {
        if counts.is_empty() {
            return;
        }
        self.json.insert(name.to_owned(), json!(counts));
        let one = name.strip_suffix('s').unwrap_or(name);
        for (text, count) in counts {
            self.lines.push((one.to_owned(), format!("{count} times: {text}")));
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        Value::Object(self.json.clone())
    }

    fn put(&mut self, name: &str, value: Value, text: String) {
        self.json.insert(name.to_owned(), value);
        self.lines.push((name.replace('_', " "), text));
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, text) in &self.lines {
            writeln!(f, "{name:width$}  {text}")?;
        }
        Ok(())
    }
}

fn readable(time: Duration) -> String {
    let micros = time.as_nanos() as f64 / 1e3;
    if micros < 1e4 { format!("{micros:.1} us") } else { format!("{:.1} ms", micros / 1e3) }
}

const MIB: f64 = (1 << 20) as f64;
