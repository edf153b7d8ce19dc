//! Names in the form that the DNS and certificates have for them.

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use crate::error::Error;

/// A host name in full, or `*.` and one. What is written in Unicode becomes A-labels, as browsers make them (UTS 46).
pub(crate) fn public_host(text: &str) -> Result<String, Error> {
    let (star, host) = text.strip_prefix("*.").map_or(("", text), |host| ("*.", host));
    let ascii = to_ascii(host.strip_suffix('.').unwrap_or(host)).filter(|ascii| {
        // Browsers would take it for an address.
        !ascii.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let ascii = ascii.ok_or_else(|| {
        let text = format!(
            "host: {text:?} is no host name like shop.example, and no wildcard like *.shop.example"
        );
        Error::config(text)
    })?;
    Ok(format!("{star}{ascii}"))
}

/// The name of a tunnel. What it may look like otherwise is the server's to say.
pub(crate) fn public_name(text: String) -> Result<String, Error> {
    if text.is_ascii() {
        return Ok(text);
    }
    let label = to_ascii(&text).filter(|ascii| !ascii.contains('.'));
    label.ok_or_else(|| Error::config(format!("name: {text:?} is no name that a host can have")))
}

fn to_ascii(host: &str) -> Option<String> {
    // Hyphens at the third and fourth place are in use, though not for what IDNA once feared.
    let ascii = Uts46::new().to_ascii(
        host.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    ascii.ok().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_unicode_become_a_labels() {
        for (text, ascii) in [
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.BÜCHER.example.", "*.xn--bcher-kva.example"),
            ("bu\u{308}cher。example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("Shop.Example", "shop.example"),
            ("r3---x.example", "r3---x.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(public_host(text).unwrap(), ascii);
        }
    }

    #[test]
    fn what_is_no_host_is_an_error_that_says_so() {
        let long = format!("{}.example", "ü".repeat(63));
        for text in [
            "",
            ".",
            "*",
            "*.",
            "a..b",
            "*.*.b",
            "a.*.b",
            "*x.b",
            "a_b.example",
            "-a.example",
            "a b",
            "xn--a.example",
            "http://a.example",
            "a.example:80",
            "a.example/x",
            "192.0.2.1",
            "[::1]",
            "\u{200d}.example",
            &long,
        ] {
            let error = public_host(text).unwrap_err().to_string();
            assert!(error.contains("host: ") && error.contains("is no host name"), "{error}");
        }
    }

    #[test]
    fn names_in_unicode_are_labels() {
        assert_eq!(public_name("Bücher".to_owned()).unwrap(), "xn--bcher-kva");
        assert_eq!(public_name("app".to_owned()).unwrap(), "app");
        assert!(public_name("a。b".to_owned()).is_err());
    }
}
