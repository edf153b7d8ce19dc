//! The answer for programs that ask for JSON: a problem of RFC 9457.

use std::fmt::{self, Write as _};

use crate::wording::Wording;

pub(crate) fn problem(wording: &Wording, id: &str) -> String {
    let Wording { status, kind, title, detail, advice } = wording;
    let (code, phrase) = (status.as_u16(), status.canonical_reason().unwrap_or(title));
    let said = match detail {
        Some(detail) => format!("{title}: {detail} {advice}"),
        None => format!("{title}. {advice}"),
    };
    // Without a type of its own a problem's title is that of its status (RFC 9457, section 4.2.1).
    format!(
        "{{\"type\":\"about:blank\",\"title\":{},\"status\":{code},\"detail\":{},\"error\":{},\"request_id\":{}}}\n",
        Quoted(phrase),
        Quoted(&said),
        Quoted(kind),
        Quoted(id),
    )
}

/// A string of JSON (RFC 8259, section 7).
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.0.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c)),
            c => f.write_char(c),
        })?;
        f.write_char('"')
    }
}

pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    #[test]
    fn a_host_name_cannot_end_its_string() {
        let refusal = Refusal::NoSuchTunnel("a\"b\\c\nd".into());
        let problem = problem(&Wording::of(&refusal), "1");
        assert!(problem.contains(r#" \"a\"b\\c\u000ad\"."#), "{problem}");
        assert!(problem.starts_with(r#"{"type":"about:blank","title":"Not Found","status":404,"#));
        assert!(problem.ends_with("\"error\":\"no-such-tunnel\",\"request_id\":\"1\"}\n"));
    }
}
