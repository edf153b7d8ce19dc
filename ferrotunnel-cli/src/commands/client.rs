//! `ferrotunnel client`: a local address, exposed over HTTP, or all the tunnels of a settings file.

use ferrotunnel::PathPrefix;

use super::forward::forward;
use crate::access::AccessSettings;
use crate::args::ClientArgs;
use crate::client_reload::ClientReload;
use crate::failure::Failure;
use crate::headers::HeaderSettings;
use crate::output::Output;
use crate::settings::ClientSettings;
use crate::settings_file::SettingsFile;
use crate::tunnel::{LocalTlsSettings, Sharing, TunnelSettings};
use crate::value::LocalTarget;

pub(super) async fn run(args: ClientArgs, output: &Output) -> Result<(), Failure> {
    let path = args.config.config.as_deref();
    let mut reload = path.map(|path| ClientReload::of(path, args.connect.clone())).transpose()?;
    let file = SettingsFile::asked_for(&args.config)?.client.unwrap_or_default();
    let is_given = args.local_addr.is_some();
    let tunnels = tunnels(args.local_addr, args.name, args.local_tls.into(), file.tunnels)?;
    let layers = args.connect.over_file(file.connect);
    if let Some(reload) = &mut reload {
        let given = tunnels.first().filter(|_| is_given).cloned();
        reload.runs_with(layers.clone().resolve(), given);
    }
    let mut settings = ClientSettings::resolve(layers, tunnels)?;
    settings.config_file = args.config.config;
    forward(settings, reload, output).await
}

/// The one that was given, or else those of the file.
fn tunnels(
    local_addr: Option<LocalTarget>,
    name: Option<String>,
    local_tls: LocalTlsSettings,
    file: Vec<TunnelSettings>,
) -> Result<Vec<TunnelSettings>, Failure> {
    match (local_addr, name) {
        (Some(local_addr), name) => {
            let (hosts, http2, sharing) = (Vec::new(), false, Sharing::default());
            let (access, headers) = (AccessSettings::default(), HeaderSettings::default());
            Ok(vec![TunnelSettings::Http {
                local_addr,
                name,
                hosts,
                path: PathPrefix::default(),
                strip_path: false,
                http2,
                sharing,
                local_tls,
                access,
                headers,
            }])
        }
        (None, _) if local_tls != LocalTlsSettings::default() => Err(Failure::usage(
            "--local-ca and --local-insecure are for the tunnel of --local-addr, which is missing; the tunnels of a \
             settings file have them there",
        )),
        (None, None) if !file.is_empty() => Ok(file),
        (None, None) => Err(Failure::usage(
            "no tunnel; give --local-addr of the local service, or a settings file (--config) with [[client.tunnels]]",
        )),
        (None, Some(_)) => Err(Failure::usage(
            "--name (or FERROTUNNEL_NAME) is for the tunnel of --local-addr, which is missing; the tunnels of a settings \
             file have their names there",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn tunnel(port: &str, name: Option<&str>) -> TunnelSettings {
        TunnelSettings::Http {
            local_addr: port.parse().unwrap(),
            name: name.map(str::to_owned),
            hosts: Vec::new(),
            path: PathPrefix::default(),
            strip_path: false,
            http2: false,
            sharing: Sharing::default(),
            local_tls: LocalTlsSettings::default(),
            access: AccessSettings::default(),
            headers: HeaderSettings::default(),
        }
    }

    #[test]
    fn a_tunnel_that_was_given_stands_for_those_of_the_file() {
        let file = || vec![tunnel("1", Some("a")), tunnel("2", Some("b"))];
        assert_eq!(tunnels(None, None, LocalTlsSettings::default(), file()).unwrap(), file());
        let given =
            tunnels("3".parse().ok(), Some("c".to_owned()), LocalTlsSettings::default(), file())
                .unwrap();
        assert_eq!(given, [tunnel("3", Some("c"))]);
    }

    #[test]
    fn without_any_tunnel_both_ways_to_have_one_are_said() {
        let failure = tunnels(None, None, LocalTlsSettings::default(), Vec::new()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("--local-addr"));
        assert!(failure.to_string().contains("[[client.tunnels]]"));
    }

    #[test]
    fn a_name_alone_renames_no_tunnel_of_the_file() {
        let failure = tunnels(
            None,
            Some("c".to_owned()),
            LocalTlsSettings::default(),
            vec![tunnel("1", None)],
        )
        .unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("--local-addr, which is missing"));
    }
}
