//! The options of a tunnel, by key. PROTOCOL.md says what each means.

use ferrotunnel_protocol::frame::{Register, TunnelOptions};

use crate::registry::PathPrefix;

/// How visitors travel: see [`Streams`](crate::direct::Streams).
pub(crate) const STREAMS: &str = "streams";

/// Another name or port will do.
///
/// What the server once picked is asked for again at a reconnect, so that visitors find it. Nobody
/// chose it, so nobody else is to lose it for that.
const PREFERRED: &str = "preferred";

/// Which of the client's carriers the tunnel is registered over.
const CARRIER: &str = "carrier";

/// The client has the tunnel over another carrier: it takes nothing over.
///
/// It can have lost the tunnel to a newer client while the question was under way.
const JOIN: &str = "join";

/// Clients of one principal that register a name under one group share its visitors.
pub(crate) const GROUP: &str = "group";

/// How a tunnel's visitors are spread over those that have it: see
/// [`Balance`](crate::balance::Balance).
pub(crate) const BALANCE: &str = "balance";

/// The part of its hosts' paths that an HTTP tunnel is for. A server that does not know it must not give the tunnel
/// whole hosts, so its key is one of those that are refused where they are unknown.
pub const PATH: &str = "access-path";

/// Whether that part is taken off the paths of requests.
pub const STRIP_PATH: &str = "strip-path";

/// Whether the client's own checks reach the local service. In a second Register for a tunnel it replaces what
/// was said before.
const HEALTH: &str = "health";

/// Whether the client takes no visitors for now. In a second Register for a tunnel it replaces what was said before.
const PAUSED: &str = "paused";

/// What the keys of options begin with that keep visitors out: a server that does not know one refuses the
/// tunnel.
pub(crate) const ACCESS: &str = "access-";

/// The addresses that visitors may come from.
pub(crate) const ALLOW: &str = "access-allow";

/// Those that they may not come from.
pub(crate) const DENY: &str = "access-deny";

/// What the keys of options begin with that change headers: a server that does not know one refuses the tunnel.
pub(crate) const HEADERS: &str = "header-";

const YES: &str = "true";
const NO: &str = "false";

/// The value of an option, if it is set.
pub(crate) fn value<'a>(options: &'a [(String, String)], key: &str) -> Option<&'a str> {
    options.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// What a list says that may be spread over several options.
pub fn values<'a>(options: &'a [(String, String)], key: &str) -> impl Iterator<Item = &'a str> {
    let key = key.to_owned();
    options
        .iter()
        .filter(move |(name, _)| *name == key)
        .flat_map(|(_, value)| value.split_whitespace())
}

/// A list, spread over as few options as will do. Nothing in it contains white space.
pub fn packed(key: &str, items: impl IntoIterator<Item = impl ToString>) -> TunnelOptions {
    joined(key, ' ', items)
}

/// The same for items that are a line each.
pub fn packed_lines(key: &str, items: impl IntoIterator<Item = impl ToString>) -> TunnelOptions {
    joined(key, '\n', items)
}

fn joined(
    key: &str,
    between: char,
    items: impl IntoIterator<Item = impl ToString>,
) -> TunnelOptions {
    let mut packed: TunnelOptions = Vec::new();
    for item in items {
        let item = item.to_string();
        match packed.last_mut() {
            Some((_, value)) if value.len() + 1 + item.len() <= LONGEST_VALUE => {
                value.push(between);
                value.push_str(&item);
            }
            _ => packed.push((key.to_owned(), item)),
        }
    }
    packed
}

/// Bytes of a value, by the protocol.
pub const LONGEST_VALUE: usize = 1_024;

/// What stands behind the name of a tunnel that has only a part of its hosts.
pub(crate) fn path_behind(options: &[(String, String)]) -> &str {
    value(options, PATH).filter(|path| *path != "/").unwrap_or_default()
}

/// Which path an HTTP tunnel is for, and whether it is taken off. Options that say what goes without saying are
/// dropped, so that both ways to ask for a tunnel ask for the same one.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn take_path(wanted: &mut Register) -> Result<(PathPrefix, bool), String> {
    let path: PathPrefix = match value(&wanted.options, PATH) {
        Some(path) => path.parse().map_err(|error| format!("path: {error}"))?,
        None => PathPrefix::default(),
    };
    let strips = match value(&wanted.options, STRIP_PATH) {
        None | Some(NO) => false,
        Some(YES) if path.is_whole() => {
            return Err("strip-path: there is no path to strip; give one".to_owned());
        }
        Some(YES) => true,
        Some(other) => return Err(format!("strip-path: {other:?} is neither true nor false")),
    };
    let (is_whole, is_kept) = (path.is_whole(), !strips);
    let goes_without_saying =
        |key: &str| (key == PATH && is_whole) || (key == STRIP_PATH && is_kept);
    wanted.options.retain(|(key, _)| !goes_without_saying(key));
    Ok((path, strips))
}

/// Whether another name or port will do.
pub(crate) fn is_preferred(wanted: &Register) -> bool {
    value(&wanted.options, PREFERRED) == Some(YES)
}

/// Says that another name or port will do.
pub(crate) fn prefer(wanted: &mut Register) {
    wanted.options.push((PREFERRED.to_owned(), YES.to_owned()));
}

/// What a client says of a tunnel while it has it, as far as it says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Its local service cannot be reached.
    pub(crate) is_down: Option<bool>,
    /// It takes no visitors for now.
    pub(crate) is_paused: Option<bool>,
}

impl Condition {
    /// `None` if it says nothing at all.
    pub(crate) fn of(wanted: &Register) -> Option<Self> {
        let said = Self {
            is_down: value(&wanted.options, HEALTH).map(|health| health == DOWN),
            is_paused: value(&wanted.options, PAUSED).map(|paused| paused == YES),
        };
        (said != Self::default()).then_some(said)
    }
}

/// Says whether it takes no visitors for now.
pub(crate) fn tell_paused(wanted: &mut Register, is_paused: bool) {
    let paused = if is_paused { YES } else { NO };
    wanted.options.push((PAUSED.to_owned(), paused.to_owned()));
}

/// Says whether the local service is down.
pub(crate) fn tell_health(wanted: &mut Register, is_down: bool) {
    let health = if is_down { DOWN } else { UP };
    wanted.options.push((HEALTH.to_owned(), health.to_owned()));
}

const DOWN: &str = "down";
const UP: &str = "up";

/// Whether it is asked for only to join in.
pub(crate) fn is_joining(wanted: &Register) -> bool {
    value(&wanted.options, JOIN) == Some(YES)
}

/// Says that it is asked for only to join in.
pub(crate) fn join(wanted: &mut Register) {
    wanted.options.push((JOIN.to_owned(), YES.to_owned()));
}

/// One of the carriers that a client has to a server; the first is 0. Each carries a session of its
/// own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CarrierNumber(pub(crate) u8);

impl CarrierNumber {
    pub(crate) const FIRST: Self = Self(0);

    /// Says over which carrier the tunnel is asked for.
    pub(crate) fn mark(self, wanted: &mut Register) {
        if self != Self::FIRST {
            wanted.options.push((CARRIER.to_owned(), self.0.to_string()));
        }
    }

    /// Over which carrier the tunnel is asked for; `None` if that is no such number.
    pub(crate) fn of(wanted: &Register) -> Option<Self> {
        match value(&wanted.options, CARRIER) {
            None => Some(Self::FIRST),
            Some(number) => number.parse().ok().map(Self),
        }
    }
}

/// What describes the tunnel itself, and not how it was asked for this time.
pub(crate) fn lasting(options: TunnelOptions) -> TunnelOptions {
    options
        .into_iter()
        .filter(|(key, _)| ![PREFERRED, CARRIER, JOIN, HEALTH, PAUSED].contains(&&**key))
        .collect()
}

#[cfg(test)]
mod tests {
    use ferrotunnel_common::TunnelKind;

    use super::*;

    #[test]
    fn how_a_tunnel_was_asked_for_is_no_part_of_it() {
        let options = vec![("h2c".to_owned(), "true".to_owned())];
        let mut wanted = Register {
            kind: TunnelKind::Http,
            name: String::new(),
            hosts: Vec::new(),
            port: 0,
            options: options.clone(),
        };
        assert!(!is_preferred(&wanted) && !is_joining(&wanted));
        assert_eq!(CarrierNumber::of(&wanted), Some(CarrierNumber::FIRST));
        prefer(&mut wanted);
        join(&mut wanted);
        CarrierNumber(3).mark(&mut wanted);
        assert_eq!(Condition::of(&wanted), None);
        tell_health(&mut wanted, true);
        assert_eq!(
            Condition::of(&wanted),
            Some(Condition { is_down: Some(true), is_paused: None })
        );
        tell_paused(&mut wanted, false);
        assert_eq!(Condition::of(&wanted).unwrap().is_paused, Some(false));
        assert!(is_preferred(&wanted) && is_joining(&wanted));
        assert_eq!(CarrierNumber::of(&wanted), Some(CarrierNumber(3)));
        assert_eq!(lasting(wanted.options.clone()), options);
        for number in ["", "256", "-1", "first"] {
            wanted.options = vec![(CARRIER.to_owned(), number.to_owned())];
            assert_eq!(CarrierNumber::of(&wanted), None, "{number:?}");
        }
    }
}
