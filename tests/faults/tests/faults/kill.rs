//! A killed server. Invariant: what it acknowledged is there, synced or not.

use faults::dice::rounds;
use faults::kill::Siege;
use faults::{Kind, Place, RootKey, able};

use crate::{assert_kept, program, seed};

fn survives(kind: Kind, rounds: u32) {
    let mut siege = Siege::new(program(), kind, seed("kill")).unwrap();
    for _ in 0..rounds {
        siege
            .round((20, 400), |server, dice| {
                if server.rotates() && dice.chance(5) {
                    server.say(&format!("rotate {}", dice.roll()))?;
                }
                Ok(())
            })
            .unwrap();
    }
    assert_kept(&siege.outcome, rounds);
    assert_eq!(siege.outcome.rounds_in_flight, rounds, "in some rounds nothing was in flight");
}

#[test]
fn what_was_acknowledged_survives_kills_of_the_server() {
    if able(&["losetup"]) {
        survives(Kind::Memory, rounds(20, 200));
    }
}

#[test]
fn what_was_acknowledged_survives_kills_of_the_mount_command() {
    if able(&["losetup"]) {
        let place = Place::new().unwrap();
        let key = RootKey::new(&place.path("")).unwrap();
        survives(Kind::Command(key.profile()), rounds(6, 60));
    }
}
