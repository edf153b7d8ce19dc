//! Which traces are kept.

use ferrotunnel_common::TraceContext;

/// As `OTEL_TRACES_SAMPLER` names them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What the visitor says is what is done. It concerns those who say something.
    follows_visitor: bool,
    /// Of those that begin here, or of all.
    share: f64,
}

impl Sampling {
    /// All of those that begin here, and of others what their visitor says.
    pub const DEFAULT: Self = Self { follows_visitor: true, share: 1.0 };

    /// By its name and argument.
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Result<Self, String> {
        let share = || match argument {
            None => Ok(1.0),
            Some(text) => {
                let share = text.trim().parse::<f64>().ok().filter(|it| (0.0..=1.0).contains(it));
                share.ok_or_else(|| {
                    format!("OTEL_TRACES_SAMPLER_ARG: {text:?} is no number from 0 to 1")
                })
            }
        };
        let (follows_visitor, share) = match name {
            "always_on" => (false, 1.0),
            "always_off" => (false, 0.0),
            "traceidratio" => (false, share()?),
            "parentbased_always_on" => (true, 1.0),
            "parentbased_always_off" => (true, 0.0),
            "parentbased_traceidratio" => (true, share()?),
            other => {
                return Err(format!(
                    "OTEL_TRACES_SAMPLER: {other:?} is none of always_on, always_off, traceidratio, and the same \
                     with parentbased_ in front"
                ));
            }
        };
        Ok(Self { follows_visitor, share })
    }

    /// Whether a request of that trace is kept. It goes by the name of the trace, so that everybody who takes a larger
    /// share has those of a smaller one among theirs.
    pub(super) fn takes(&self, parent: Option<TraceContext>, trace: [u8; 16]) -> bool {
        if let Some(parent) = parent.filter(|_| self.follows_visitor) {
            return parent.is_sampled();
        }
        if self.share >= 1.0 {
            return true;
        }
        let mut low = [0; 8];
        low.copy_from_slice(&trace[8..]);
        // As the SDKs do it: 63 bits.
        let bound = (self.share * (1_u64 << 63) as f64) as u64;
        u64::from_be_bytes(low) >> 1 < bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(low: u64) -> [u8; 16] {
        let mut trace = [1; 16];
        trace[8..].copy_from_slice(&low.to_be_bytes());
        trace
    }

    #[test]
    fn a_share_is_taken_by_the_name_of_the_trace() {
        let tenth = Sampling::parse("traceidratio", Some("0.1")).unwrap();
        assert!(tenth.takes(None, trace(u64::MAX / 11)));
        assert!(!tenth.takes(None, trace(u64::MAX / 9)));
        let (all, none) = (Sampling::DEFAULT, Sampling::parse("always_off", None).unwrap());
        for low in [0, 1, u64::MAX] {
            assert!(all.takes(None, trace(low)) && !none.takes(None, trace(low)));
        }
    }

    #[test]
    fn what_the_visitor_says_counts_where_the_name_says_so() {
        let said = |flags| TraceContext::new(trace(0), [1; 8], flags);
        let parent = Sampling::parse("parentbased_always_off", None).unwrap();
        assert!(parent.takes(said(1), trace(0)) && !parent.takes(said(0), trace(0)));
        assert!(!parent.takes(None, trace(0)));
        assert!(!Sampling::DEFAULT.takes(said(0), trace(0)));
        let own = Sampling::parse("always_on", None).unwrap();
        assert!(own.takes(said(0), trace(0)));
    }

    #[test]
    fn what_is_no_sampler_is_told() {
        for (name, argument) in
            [("most", None), ("traceidratio", Some("2")), ("traceidratio", Some("x"))]
        {
            assert!(
                Sampling::parse(name, argument).unwrap_err().starts_with("OTEL_TRACES_SAMPLER")
            );
        }
    }
}
