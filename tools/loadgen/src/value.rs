//! What may be typed where a time or a number is wanted.

use std::time::Duration;

/// A time with its unit: `500ms`, `10s`, `2m`; a bare number counts seconds.
///
/// # Errors
/// It is none.
pub fn duration_or_none(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || "give a number and a unit, like 500ms, 10s or 2m".to_owned();
    let number: u32 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number.into())),
        "" | "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(60 * u64::from(number))),
        _ => Err(wrong()),
    }
}

/// A time that passes.
///
/// # Errors
/// It is none, or nothing.
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_none(text)? {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        time => Ok(time),
    }
}

/// A number of things of which there must be some.
///
/// # Errors
/// It is none.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=MOST) => Ok(count),
        _ => Err(format!("give a number from 1 to {MOST}")),
    }
}

/// More than one machine has ports and descriptors for.
const MOST: usize = 1_000_000;
