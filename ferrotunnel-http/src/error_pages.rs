//! Pages of the operator's own in place of ours: what they look like, and where they come from.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use http::StatusCode;

use crate::{page::Escaped, wording::Wording};

/// The pages that browsers get when an answer is the server's own, by status.
///
/// They are HTML files of one directory: `404.html` for one status, `default.html` for those without a
/// file of their own. Where neither is there, the built-in page is shown. A page may say what has
/// happened by `{{status}}`, `{{title}}`, `{{detail}}`, `{{advice}}`, `{{error}}` and `{{request-id}}`;
/// what comes there is escaped, so that no visitor can bring markup into it.
#[derive(Clone, Debug, Default)]
pub struct ErrorPages {
    pages: Arc<BTreeMap<u16, Template>>,
    default: Option<Arc<Template>>,
}

/// What is wrong with a directory of pages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorPagesError {
    /// A file, or the directory, cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which one.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The directory has no page in it.
    #[error(
        "there is no page in {0}: name them after their status, like 404.html, or default.html"
    )]
    Empty(String),
    /// The name of a page is no status of an answer of ours.
    #[error("{0} is the page of no error: name it after a status from 400 to 599, or default.html")]
    Name(String),
    /// A page is too large to be kept in memory and sent to everybody who mistypes an address.
    #[error("{0} is larger than 256 KiB; pages come from memory, so put images elsewhere")]
    TooLarge(String),
    /// A page is no text.
    #[error("{0} is not UTF-8")]
    Encoding(String),
    /// A page has a placeholder that nobody fills.
    #[error(
        "{path} has {{{{{name}}}}} in it; there are status, title, detail, advice, error and request-id"
    )]
    Placeholder {
        /// The page.
        path: String,
        /// What stands between the braces.
        name: String,
    },
}

/// A page, cut up at its placeholders.
#[derive(Debug)]
struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Status,
    Title,
    Detail,
    Advice,
    Error,
    RequestId,
}

impl ErrorPages {
    /// Reads all pages of a directory. Files that are no `.html` are not looked at.
    ///
    /// # Errors
    /// The directory or a page cannot be read or used; the error names the file.
    pub fn read(dir: impl AsRef<Path>) -> Result<Self, ErrorPagesError> {
        let dir = dir.as_ref();
        let mut pages = BTreeMap::new();
        let mut default = None;
        for entry in fs::read_dir(dir).map_err(cannot_read(dir))? {
            let path = entry.map_err(cannot_read(dir))?.path();
            if path.extension().is_none_or(|extension| extension != "html") {
                continue;
            }
            let template = Template::read(&path)?;
            match path.file_stem().and_then(|stem| stem.to_str()) {
                Some("default") => default = Some(Arc::new(template)),
                stem => {
                    let status = stem.filter(|stem| stem.len() == 3);
                    let status = status.and_then(|status| status.parse().ok());
                    let status = status.filter(|status| (400..600).contains(status));
                    let status = status.ok_or_else(|| ErrorPagesError::Name(named(&path)))?;
                    pages.insert(status, template);
                }
            }
        }
        if pages.is_empty() && default.is_none() {
            return Err(ErrorPagesError::Empty(named(dir)));
        }
        Ok(Self { pages: Arc::new(pages), default })
    }

    /// The page for an answer, if there is one.
    pub(crate) fn page(&self, wording: &Wording, id: &str) -> Option<String> {
        let own = self.pages.get(&wording.status.as_u16());
        Some(own.or(self.default.as_deref())?.fill(wording, id))
    }
}

impl Template {
    fn read(path: &Path) -> Result<Self, ErrorPagesError> {
        let size = fs::metadata(path).map_err(cannot_read(path))?.len();
        if size > MAX_PAGE {
            return Err(ErrorPagesError::TooLarge(named(path)));
        }
        let bytes = fs::read(path).map_err(cannot_read(path))?;
        let text = String::from_utf8(bytes).map_err(|_| ErrorPagesError::Encoding(named(path)))?;
        Self::parse(&text)
            .map_err(|name| ErrorPagesError::Placeholder { path: named(path), name: name.into() })
    }

    /// The name that nobody knows, if there is one. Braces that do not close are text.
    fn parse(mut text: &str) -> Result<Self, &str> {
        let mut parts = Vec::new();
        while let Some((before, (name, after))) =
            text.split_once("{{").and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
        {
            parts.push(Part::Text(before.into()));
            parts.push(match name.trim() {
                "status" => Part::Status,
                "title" => Part::Title,
                "detail" => Part::Detail,
                "advice" => Part::Advice,
                "error" => Part::Error,
                "request-id" => Part::RequestId,
                unknown => return Err(unknown),
            });
            text = after;
        }
        parts.push(Part::Text(text.into()));
        Ok(Self(parts))
    }

    fn fill(&self, wording: &Wording, id: &str) -> String {
        let mut page = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => page.push_str(text),
                Part::Status => page.push_str(code(wording.status).as_str()),
                Part::Title => page.push_str(&Escaped(wording.title).to_string()),
                Part::Detail => {
                    let detail = wording.detail.as_deref().unwrap_or_default();
                    page.push_str(&Escaped(detail).to_string());
                }
                Part::Advice => page.push_str(&Escaped(wording.advice).to_string()),
                Part::Error => page.push_str(&Escaped(wording.kind).to_string()),
                Part::RequestId => page.push_str(&Escaped(id).to_string()),
            }
        }
        page
    }
}

fn code(status: StatusCode) -> String {
    status.as_u16().to_string()
}

fn named(path: &Path) -> String {
    path.display().to_string()
}

fn cannot_read(path: &Path) -> impl FnOnce(io::Error) -> ErrorPagesError {
    let path = named(path);
    move |source| ErrorPagesError::Io { path, source }
}

/// Operators' pages may have styles, images and fonts from anywhere that is encrypted, but no scripts: they are
/// shown under the names of tunnels, whose cookies are somebody else's.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline' https:; \
     img-src data: https:; font-src data: https:";

/// Styles and a drawing or two; each page stays in memory.
const MAX_PAGE: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    #[test]
    fn placeholders_are_filled_and_escaped() {
        let text =
            "<h1>{{status}} {{ title }}</h1>{{detail}}|{{advice}}|{{error}}|{{request-id}} {{";
        let template = Template::parse(text).unwrap();
        let refusal = Refusal::NoSuchTunnel("<b>&".into());
        let page = template.fill(&Wording::of(&refusal), "\"id\"");
        assert!(page.starts_with("<h1>404 No such tunnel</h1>No tunnel"), "{page}");
        assert!(page.contains("&lt;b&gt;&amp;") && !page.contains("<b>"), "{page}");
        assert!(page.ends_with("|no-such-tunnel|&quot;id&quot; {{"), "{page}");
    }

    #[test]
    fn what_nobody_fills_is_an_error() {
        assert_eq!(Template::parse("{{status}} {{secret}}").unwrap_err(), "secret");
        assert_eq!(Template::parse("{{}}").unwrap_err(), "");
    }
}
