//! A failing device. Invariant: `EIO` for the call that failed, and for each descriptor once at its next sync; the file as it
//! was; nothing is called damaged that is not.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use faults::device::Refuses::{Reads, Writes};
use faults::dice::pattern;
use faults::{Device, Kind, Place, Server, able};

use crate::{errno, program};

struct Setup {
    server: Server,
    device: Device,
    _place: Place,
}

impl Setup {
    fn new() -> Option<Self> {
        if !able(Device::PROGRAMS) {
            return None;
        }
        let place = Place::new().unwrap();
        let device = Device::new(&place).unwrap();
        let backing = device.root().join("backing");
        std::fs::create_dir(&backing).unwrap();
        let server = Server::start(program(), Kind::Memory, &backing, &place.dir("mount").unwrap()).unwrap();
        Some(Self { server, device, _place: place })
    }

    /// A file that is on the device.
    fn file(&self, name: &str, contents: &[u8]) {
        std::fs::write(self.server.path(name), contents).unwrap();
        File::open(self.server.path(name)).unwrap().sync_all().unwrap();
        File::open(self.server.path("")).unwrap().sync_all().unwrap();
    }

    /// As after a restart of the machine.
    fn cold(&mut self) {
        self.server.end();
        self.device.mount_again().unwrap();
        self.server.again().unwrap();
    }

    fn open(&self, name: &str) -> File {
        OpenOptions::new().read(true).write(true).open(self.server.path(name)).unwrap()
    }

    fn counters(&mut self) -> String {
        self.server.say("counters").unwrap()
    }
}

#[test]
fn a_write_that_the_device_refuses_is_told_once_to_each_descriptor_and_the_file_is_as_it_was() {
    let Some(mut setup) = Setup::new() else { return };
    let contents = pattern(1, 100_000);
    setup.file("f", &contents);
    setup.file("other", &contents);
    let (one, two) = (setup.open("f"), setup.open("f"));
    setup.device.refuse(Writes, true).unwrap();
    one.write_all_at(&pattern(2, 5000), 20_000).unwrap();
    assert_eq!(errno(one.sync_data()), libc::EIO);
    setup.device.refuse(Writes, false).unwrap();
    one.sync_data().unwrap();
    assert_eq!(errno(two.sync_data()), libc::EIO);
    two.sync_data().unwrap();
    setup.open("f").sync_data().unwrap();
    drop((one, two));
    setup.cold();
    assert!(std::fs::read(setup.server.path("f")).unwrap() == contents, "it is not as it was");
    assert!(std::fs::read(setup.server.path("other")).unwrap() == contents);
    // And it takes writes again.
    let file = setup.open("f");
    file.write_all_at(&pattern(3, 5000), 20_000).unwrap();
    file.sync_all().unwrap();
    drop(file);
    setup.cold();
    let found = std::fs::read(setup.server.path("f")).unwrap();
    assert!(found[20_000..25_000] == pattern(3, 5000) && found[..20_000] == contents[..20_000]);
    assert!(setup.counters().contains("damaged: 0"));
}

#[test]
fn a_read_that_the_device_refuses_is_eio_and_no_damage_and_works_again_afterwards() {
    let Some(mut setup) = Setup::new() else { return };
    let contents = pattern(1, 300_000);
    setup.file("f", &contents);
    setup.cold();
    // The header and the directory are here, the blocks are not.
    let file = setup.open("f");
    setup.device.refuse(Reads, true).unwrap();
    let mut buffer = [0; 4000];
    assert_eq!(errno(file.read_exact_at(&mut buffer, 250_000)), libc::EIO);
    // An overwrite of a part of a block needs the rest of it.
    assert_eq!(errno(file.write_all_at(b"part", 200_000)), libc::EIO);
    setup.device.refuse(Reads, false).unwrap();
    file.read_exact_at(&mut buffer, 250_000).unwrap();
    assert!(buffer[..] == contents[250_000..254_000]);
    assert!(std::fs::read(setup.server.path("f")).unwrap() == contents, "it is not as it was");
    assert!(setup.counters().contains("damaged: 0"), "{}", setup.counters());
}

#[test]
fn a_header_that_the_device_does_not_give_is_eio_and_no_damage() {
    let Some(mut setup) = Setup::new() else { return };
    let contents = pattern(1, 10_000);
    setup.file("f", &contents);
    setup.cold();
    // The name and the size are known.
    assert_eq!(std::fs::metadata(setup.server.path("f")).unwrap().len(), 10_000);
    setup.device.refuse(Reads, true).unwrap();
    assert_eq!(errno(std::fs::read(setup.server.path("f"))), libc::EIO);
    setup.device.refuse(Reads, false).unwrap();
    assert!(std::fs::read(setup.server.path("f")).unwrap() == contents);
    assert!(setup.counters().contains("damaged: 0"), "{}", setup.counters());
}

#[test]
fn a_rewrap_that_the_device_refuses_hinders_nobody_and_is_done_later() {
    let Some(mut setup) = Setup::new() else { return };
    let contents = pattern(1, 10_000);
    setup.file("f", &contents);
    setup.server.say("rotate 2").unwrap();
    setup.device.refuse(Writes, true).unwrap();
    assert!(std::fs::read(setup.server.path("f")).unwrap() == contents);
    assert!(setup.counters().contains("upgrades_failed: 1"), "{}", setup.counters());
    setup.device.refuse(Writes, false).unwrap();
    setup.cold();
    setup.server.say("rotate 3").unwrap();
    assert!(std::fs::read(setup.server.path("f")).unwrap() == contents);
    let counters = setup.counters();
    assert!(counters.contains("upgraded: 1,") && counters.contains("upgrades_failed: 0"), "{counters}");
    setup.cold();
    assert!(std::fs::read(setup.server.path("f")).unwrap() == contents);
}
