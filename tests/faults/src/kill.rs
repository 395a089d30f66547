//! A server that is killed again and again under a load: one that writes through keeps all that it acknowledged.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::power::{Outcome, note};
use crate::{Dice, Kind, Load, Place, Promise, Server};

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub struct Siege {
    /// What is killed.
    pub server: Server,
    /// What came of it so far.
    pub outcome: Outcome,
    load: Load,
    dice: Dice,
    /// The last, because it must outlive what is in it.
    _place: Place,
}

impl Siege {
    /// Serves a fresh directory by `kind` and makes the files of a load; `program` is this crate's own.
    pub fn new(program: &Path, kind: Kind, seed: u64) -> Result<Self> {
        let place = Place::new()?;
        let server = Server::start(program, kind, &place.dir("backing")?, &place.dir("mount")?)?;
        let load = Load::set_up(&server.path(""), seed, Promise::Acknowledged)?;
        Ok(Self { server, outcome: Outcome::default(), load, dice: Dice::new(seed ^ 2), _place: place })
    }

    /// One round: runs the load for `least` to `most` steps with `meanwhile` between them, kills the server, serves anew,
    /// and checks every promise.
    pub fn round(
        &mut self,
        (least, most): (u64, u64),
        mut meanwhile: impl FnMut(&mut Server, &mut Dice) -> Result<()>,
    ) -> Result<()> {
        self.outcome.rounds += 1;
        let end = Instant::now() + PATIENCE;
        let steps = least + self.dice.below((most - least) as usize) as u64;
        let (server, dice) = (&mut self.server, &mut self.dice);
        let mut findings = self.load.run(|under| {
            while under.steps() < steps {
                ensure!(Instant::now() < end, "the load makes no progress");
                meanwhile(server, dice)?;
                std::thread::sleep(Duration::from_micros(dice.below(1000) as u64));
            }
            under.breaking();
            server.kill()
        })?;
        self.server.again()?;
        findings.add(self.load.check());
        note(&mut self.outcome, findings);
        Ok(())
    }
}
