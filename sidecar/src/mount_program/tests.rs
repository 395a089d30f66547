//! What options come to, without any mount.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use rustix::mount::MountFlags;

use super::options::{Options, OptionsError};
use super::{Arguments, backing, mount_code, run};

fn read(list: &str) -> Options {
    let mut options = Options::default();
    options.read(list, false).unwrap();
    options
}

#[test]
fn set_user_id_and_devices_work_unless_an_option_forbids_them() {
    let usual = read("rw");
    assert_eq!(usual.look("s").flags, MountFlags::empty());
    assert!(usual.has_devices());
    let asked = read("rw,nosuid,nodev,noatime,relatime");
    let forbidden = MountFlags::NOSUID | MountFlags::NODEV;
    assert_eq!(asked.look("s").flags, forbidden | MountFlags::NOATIME | MountFlags::RELATIME);
    assert!(!asked.has_devices());
    assert!(read("nodev,dev").has_devices());
}

#[test]
fn the_look_is_the_one_that_was_asked_for() {
    let usual = read("").look("non1");
    assert_eq!((usual.source.as_str(), usual.fstype.as_str()), ("non1", "fuse.cofferdam"));
    let asked = read("fstype=fuse,fsname=other,max_read=65536").look("non1");
    assert_eq!((asked.source.as_str(), asked.fstype.as_str()), ("other", "fuse"));
    assert_eq!(asked.max_read, Some(65_536));
}

#[test]
fn the_last_of_two_options_counts_and_the_volume_is_as_asked_for() {
    let mut options = read("profile=/a,ro,strict,seal,allow_loopback_http,accept_origin=1,accept_origin=2");
    options.read("profile=/b", false).unwrap();
    let volume = options.volume("/raw".into(), "/plain".into());
    assert!(volume.read_only && volume.strict && volume.seal && volume.profile.allow_loopback_http);
    assert!(!volume.direct && !volume.virtual_ownership);
    assert_eq!(volume.profile.profile.as_deref(), Some(Path::new("/b")));
    assert_eq!(volume.accept_origin, ["1", "2"]);
}

#[test]
fn what_nobody_knows_is_an_error_but_for_the_sloppy() {
    let wrong = |list: &str| Options::default().read(list, false).unwrap_err();
    assert_eq!(wrong("ro,quota"), OptionsError::Unknown("quota".into()));
    assert_eq!(wrong("profiel=/x"), OptionsError::Unknown("profiel=/x".into()));
    assert_eq!(wrong("fstype=ext4"), OptionsError::Value("fstype", "ext4".into()));
    assert_eq!(wrong("wait=soon"), OptionsError::Value("wait", "soon".into()));
    assert!(Options::default().read("ro,quota", true).is_ok());
    read("defaults,noauto,user=me,x-systemd.automount,_netdev,allow_other,default_permissions,user_id=0");
}

#[test]
fn a_plain_name_lies_below_the_root_and_nowhere_else() {
    let at = |source: &str, list: &str| backing(source, &read(list)).ok();
    assert_eq!(at("non1", "root=/v"), Some("/v/non1".into()));
    assert_eq!(at("/raw", "root=/v"), Some("/raw".into()));
    assert_eq!(at("non1", "root=/v,source=/w"), Some("/w".into()));
    for (source, list) in
        [("non1", ""), ("..", "root=/v"), (".", "root=/v"), ("a/b", "root=/v"), ("", "root=/v")]
    {
        assert_eq!(at(source, list), None, "{source}");
    }
}

#[test]
fn flags_that_a_remount_does_not_name_stay() {
    let had = MountFlags::NOSUID | MountFlags::NOATIME;
    assert_eq!(read("remount,ro").flags.over(had), had | MountFlags::RDONLY);
    assert_eq!(read("remount,rw,suid,ro,rw").flags.over(had | MountFlags::RDONLY), MountFlags::NOATIME);
}

#[test]
fn a_wrong_call_and_a_failed_mount_have_the_codes_of_mount() {
    let call = |options: &str, namespace: Option<&str>| {
        run(&Arguments {
            source: "non1".into(),
            target: "/nowhere".into(),
            options: vec![options.into()],
            defaults: String::new(),
            fstype: None,
            namespace: namespace.map(Into::into),
            sloppy: false,
            fake: true,
            no_table: false,
            verbose: false,
        })
    };
    assert_eq!(call("nonsense", None), 1);
    assert_eq!(call("rw", None), 1);
    assert_eq!(call("root=/v", Some("/proc/1/ns/mnt")), 1);
    let codes =
        [contract::exit::OK, contract::exit::CONFIG, contract::exit::REFUSED, contract::exit::FAILURE];
    assert_eq!(codes.map(mount_code), [0, 1, 32, 32]);
}
