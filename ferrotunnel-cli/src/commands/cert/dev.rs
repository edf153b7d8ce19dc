//! `ferrotunnel cert dev`: a certificate for development, and how to have it trusted.

use std::path::Path;

use ferrotunnel::dev_certificate;
use serde_json::json;

use crate::args::CertDevArgs;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(args: &CertDevArgs, output: &Output) -> Result<(), Failure> {
    let made = dev_certificate(&args.dir, &args.hosts)?;
    let (ca, cert, key) = (made.ca.display(), made.cert.display(), made.key.display());
    output.answer_event(&json!({
        "event": "certificate",
        "hosts": made.hosts,
        "ca": made.ca,
        "cert": made.cert,
        "key": made.key,
    }))?;
    output.talk(format_args!("a certificate for {}:", made.hosts.join(", ")));
    output.answer_plain(format_args!(
        "ferrotunnel server --https-bind 127.0.0.1:8443 --https-cert {cert} --https-key {key}"
    ))?;
    output.talk("to have it trusted on this machine, until it is taken out again:");
    for line in how_to_trust(&made.ca) {
        output.answer_plain(line)?;
    }
    output.talk(format_args!(
        "Firefox has a store of its own: Settings, Certificates, Authorities, Import {ca}. The key of that CA is gone: \
         nobody can issue anything else with it, and other hosts need another run of this command"
    ));
    Ok(())
}

/// The commands of each system.
fn how_to_trust(ca: &Path) -> Vec<String> {
    let ca = std::path::absolute(ca).unwrap_or_else(|_| ca.to_owned());
    let ca = ca.display();
    vec![
        format!("curl --cacert {ca} https://localhost:8443/"),
        format!(
            "# Debian, Ubuntu: sudo cp {ca} /usr/local/share/ca-certificates/ferrotunnel-dev.crt && sudo update-ca-certificates"
        ),
        format!("# Fedora, Arch: sudo trust anchor --store {ca}"),
        format!(
            "# macOS: sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {ca}"
        ),
        format!("# Windows: certutil -addstore -user Root {ca}"),
    ]
}
