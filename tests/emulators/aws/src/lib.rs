//! AWS KMS and STS, as far as root keys need them: for tests, in memory, with a clock in the test's hand.
//!
//! What decides is real: signatures are verified, policies are evaluated, keys have materials of their own, tokens are checked
//! against their issuer's keys. Its truthfulness is shown by AWS's own Python client, `boto3`. Invariant: what it does not
//! understand it refuses, so that no test passes for a reason that AWS would not have.

mod access;
mod actions;
mod clock;
mod keys;
mod policy;
mod refusal;
mod request;
mod server;
mod signature;
mod sts;
mod world;

pub use clock::Clock;
pub use keys::{Key, State};
pub use policy::Policy;
pub use server::Server;
pub use world::{Event, Role, User, World};

/// The account of everything here.
pub const ACCOUNT: &str = "111122223333";
/// The region of everything here.
pub const REGION: &str = "eu-central-1";
