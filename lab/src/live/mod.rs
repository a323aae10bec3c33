//! The live lab: a page in the browser that shows networks while they train, and lets people change them.
//!
//! [`Live::start`] starts two threads. One trains a [`Bench`] of networks and never waits for a page: a page that is slow
//! misses frames, not steps. The other serves HTTP by hyper over tokio, which add 10 seconds to the first build on two cores.
//! Of the smaller libraries, tiny_http has no timeouts, starts a thread for every connection, and stops for good when the
//! system refuses one; axum adds three times as much, and a router for five paths is not needed.
//!
//! | file | question |
//! | --- | --- |
//! | `config`, `action` | What can be asked for? |
//! | `bench`, `act`, `network` | What do the networks do? |
//! | `see`, `pass`, `theory`, `evaluate` | What is measured, predicted and answered? |
//! | `finding`, `advice` | What is wrong, and what would help? |
//! | `frame` | What is sent? |
//! | `trainer`, `pace`, `recording` | When is it trained, watched, sent and kept? |
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
mod pace;
mod page;
mod pass;
mod recording;
mod respond;
mod see;
mod server;
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
pub use server::{Live, LiveConfig, LiveError};
pub use text::Text;
