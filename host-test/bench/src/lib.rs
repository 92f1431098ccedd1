//! Measures what filters cost: [`offline`] on the offline host, [`in_envoy`] in a real Envoy.
//!
//! What is compared is measured in one run, in rounds that take every subject in turn, so that a machine
//! that is busy with something else is busy for all of them. An engine is not chosen here: whoever
//! measures brings modules, compiled and from a cache.

#![forbid(unsafe_code)]

mod count;
mod envoy;
mod error;
mod figures;
mod html;
mod load;
mod metered;
mod offline;
mod plot;
mod report;
mod rounds;
mod subject;
mod table;

pub use envoy::{Envoy, Listener, Rounds, Secured, in_envoy};
pub use error::NotMeasured;
pub use figures::Spread;
pub use html::html;
pub use load::{CONNECTIONS, Client, Request, get};
pub use offline::{Loaders, offline};
pub use report::{CallbackCost, FunctionCost, Inside, Memory, Report, Starting, Target, Traffic};
pub use subject::Subject;
