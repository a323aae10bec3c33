//! The live lab: a page in the browser that shows networks while they train, and lets people change them.
//!
//! [`Live::start`] starts two threads. One trains a [`Bench`] of networks and never waits for a page: a page that is
//! slow misses frames, not steps. The other serves HTTP by hyper over tokio. They add 21 s of one core to the first
//! build, 14 s on two cores. axum takes 48 s, for a router of five paths. tiny_http takes 8 s, but has no timeouts,
//! starts a thread for every connection, and stops for good when the system refuses one.
//!
//! [`Live::serve`] shows a training loop of somebody else's on the same page.
//!
//! Every step can be watched without changing its result. A watched step of four networks costs a quarter to a half
//! more than one that is not, and there are ten a second.
//!
//! | file | question |
//! | --- | --- |
//! | `config`, `action` | What can be asked for? |
//! | `bench`, `act`, `network` | What do the networks do? |
//! | `see`, `pass`, `theory`, `evaluate` | What is measured, predicted and answered? |
//! | `finding`, `advice` | What is wrong, and what would help? |
//! | `frame` | What is sent? |
//! | `trainer`, `pace`, `recording`, `shared` | When is it trained, watched, sent and kept? |
//! | `own` | How does a training loop of somebody else's come to the page? |
//! | `server`, `guard`, `connections`, `respond`, `page` | Who may ask, and what do they get? |

mod act;
mod action;
mod advice;
mod bench;
mod browser;
mod config;
mod connections;
mod evaluate;
mod finding;
mod frame;
mod guard;
mod network;
mod own;
mod pace;
mod page;
mod pass;
mod recording;
mod respond;
mod see;
mod server;
mod shared;
mod text;
mod theory;
mod thinned;
mod trainer;

pub use act::Effect;
pub use action::{Action, Every, Id, TestSetting, UnitsOf};
pub use bench::Bench;
pub use browser::open_browser;
pub use config::{BenchConfig, Change, NetworkConfig};
pub use frame::{Advice, Reading};
pub use own::LiveSink;
pub use server::{Live, LiveConfig, LiveError};
pub use text::Text;
