//! The page that a browser gets as an answer of ours.

use std::fmt::{self, Write as _};

use crate::wording::Wording;

pub(crate) fn page(wording: &Wording, id: &str) -> String {
    let Wording { status, kind, title, detail, advice } = wording;
    let code = status.as_u16();
    let mut page = String::with_capacity(STYLE.len() + 1024);
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<main>\n<h1>{title}</h1>\n"
    );
    if let Some(detail) = detail {
        let _ = writeln!(page, "<p>{}</p>", Escaped(detail));
    }
    let _ = write!(
        page,
        "<p>{advice}</p>\n<footer>{code} {kind} &middot; request {} &middot; FerroTunnel</footer>\n\
         </main>\n</html>\n",
        Escaped(id)
    );
    page
}

/// Text of a visitor inside a page.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

/// The page has a style of its own and nothing else.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:0;min-height:100vh;display:grid;place-items:center;\
font:1rem/1.6 system-ui,sans-serif}\
main{max-width:34rem;padding:2rem}\
h1{font-size:1.5rem;margin:0 0 1rem}\
p{margin:0 0 1rem;overflow-wrap:anywhere}\
footer{opacity:.6;font-size:.85rem}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    #[test]
    fn a_host_name_cannot_bring_markup_into_the_page() {
        let refusal = Refusal::NoSuchTunnel("<script>alert('x')</script>&".into());
        let page = page(&Wording::of(&refusal), "<1>");
        assert!(!page.contains("<script") && page.contains("request &lt;1&gt; "), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;"), "{page}");
    }
}
