//! A tar archive with everything that a file can have, out of one encrypted volume and into another one.

use ground::{Kind, Run, Volume, can_mount, report};

/// A tree with attributes, ACLs, hard links, holes, devices, odd names and odd times.
const TREE: &str = r"
    mkdir -p tree/deep/er tree/shared; cd tree
    head -c 1000000 /dev/urandom > data; ln data deep/hard; ln data deep/er/hard; ln -s ../data deep/soft; ln -s nowhere dangling
    printf end | dd of=sparse bs=1 seek=50M status=none; printf middle | dd of=sparse bs=1 seek=20M conv=notrunc status=none
    truncate -s 3M hole; : > empty
    for n in $(seq 300); do echo $n > deep/er/file-$n; done
    mkfifo pipe; mknod null c 1 3; mknod loop b 7 200
    setfattr -n user.text -v 'a value' data; setfattr -n user.binary -v 0x00ff00 sparse; setfattr -n trusted.root -v only data
    setfattr -n user.on-directory -v yes deep
    setfacl -m u:nobody:rw,g:daemon:r,m::rw data; setfacl -m d:u:bin:rwx,d:m::rwx,u:bin:rx shared; : > shared/inherits
    chmod 4755 deep/er/file-1; chmod 2775 shared; chmod 1777 deep; chmod 0 empty; chmod 0200 hole
    chown nobody:daemon sparse; chown -h bin:bin dangling; chown nobody deep/er/file-2
    touch -d '1999-12-31 23:59:59.123456789' data; touch -h -d '2001-02-03 04:05:06.7' dangling
    : > $'a name with\nnewline'; : > 'ünïcødé 名前'; : > -- '-dash'; : > $(printf 'x%.0s' $(seq 255))
    mkdir -p $(printf 'directory-with-a-rather-long-name/%.0s' $(seq 12)); touch -d '2010-01-01' deep/er deep
";

/// All that tells two trees apart, as text.
const MANIFEST: &str = r"
    find . -mindepth 1 -printf '%P %y %m %U %G %n %l %T@ ' \( -type f -printf '%s\n' -o -printf '-\n' \) | sort
    find . -type f -links +1 -printf '%i %P\n' | sort | awk '{ if ($1 != last) group++; last = $1; print group, $2 }'
    find . -type f -print0 | sort -z | xargs -0 sha256sum
    find . \( -type b -o -type c \) -print0 | sort -z | xargs -0 stat -c '%n %t %T'
    getfattr -R -h -d -m - -e hex . 2>/dev/null | grep -v '^system.posix_acl' || true
    getfacl -R -n -P . 2>/dev/null
";

#[test]
fn a_tar_round_trip_keeps_everything_that_a_file_has() {
    if !can_mount() {
        return;
    }
    report("tar", || {
        let from = Volume::mounted("tar-from", Kind::Disk);
        let mut to = Volume::mounted("tar-to", Kind::Disk);
        Run::within(&from.path("")).shell(TREE);
        let tar = "tar --acls --xattrs --xattrs-include='*' --sparse --numeric-owner";
        let script = format!("{tar} -cf - tree | {tar} -C {} -xpf -", to.path("").display());
        Run::within(&from.path("")).shell(&script);
        let wanted = Run::within(&from.path("tree")).shell(MANIFEST);
        to.remount();
        let got = Run::within(&to.path("tree")).shell(MANIFEST);
        let difference = wanted.lines().zip(got.lines()).find(|(wanted, got)| wanted != got);
        assert_eq!(difference, None);
        assert_eq!(wanted.lines().count(), got.lines().count());
        for seen in ["user.text", "trusted.root", "user:65534:rw-", "default:user:2:rwx", "deep/er/hard"] {
            assert!(got.contains(seen), "the tree has no {seen}:\n{got}");
        }
        let blocks = Run::within(&to.path("tree")).shell("stat -c %b sparse");
        assert!(blocks.trim().parse::<u64>().unwrap() < 200, "holes stay holes: {blocks}");
        format!(
            "{} entries with attributes, ACLs, hard links, holes and devices are the same",
            Run::within(&to.path("tree")).shell("find . | wc -l").trim()
        )
    });
}
