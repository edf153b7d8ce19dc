//! One thing that is done over and over.

use std::future::ready;

use crate::failure::Fault;

/// Does one exchange at a time. Several lanes may share a connection.
pub(crate) trait Lane: Send + 'static {
    /// One exchange; what it takes is what is measured. A lane that was lost is set up again by
    /// the next one.
    fn exchange(&mut self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// What belongs to a good exchange but is not measured.
    fn settle(&mut self) -> impl Future<Output = ()> + Send {
        ready(())
    }
}
