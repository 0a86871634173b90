//! What the server does as seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in its helpers")]

mod ask;
mod background;
mod clock;
mod crash;
mod damage;
mod free;
mod golden;
mod ground;
mod heal;
mod http;
mod identity;
mod known_hosts;
mod panics;
mod pieces;
mod process;
mod regressions;
mod restart;
mod returned;
mod roll;
mod site;
mod soak;
mod start;
mod way_back;
