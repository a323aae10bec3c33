//! The live lab: a page in the browser that shows networks while they train, and lets people change them.
//!
//! [`Live::start`] starts two threads. One trains a [`Bench`] of networks and never waits for a page: a page that is
//! slow misses frames, not steps. The other serves HTTP with hyper and tokio. These crates add 21 s of one core to the
//! first build, 14 s on two cores. axum would add 48 s, for a router of five paths. tiny_http would add 8 s, but it has
//! no timeouts, starts a thread for every connection, and stops permanently if the system refuses one.
//!
//! [`Live::serve`] shows a training loop of the caller's own on the same page.
//!
//! Watching a step does not change its result. A watched step of four networks takes a quarter to a half longer than an
//! unwatched one; about ten steps a second are watched.
//!
//! | file | question |
//! | --- | --- |
//! | `config`, `action` | What can be asked for? |
//! | `bench`, `act`, `network` | What do the networks do? |
//! | `see`, `pass`, `theory`, `evaluate` | What is measured, predicted and answered? |
//! | `finding`, `advice` | What is wrong, and what would help? |
//! | `frame` | What is sent? |
//! | `trainer`, `pace`, `recording`, `shared` | When is it trained, watched, sent and kept? |
//! | `own` | How does a training loop of the caller's own get onto the page? |
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
