//! SQLite whose process, or whose filesystem, is killed in the middle of its work.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ground::{Kind, Run, Volume, can_mount, report, scaled};

/// Inserts rows in transactions of ten, and says each number that was committed.
const WRITER: &str = r#"
    for n in $(seq 1 10 100000); do
        echo 'BEGIN;'; for i in $(seq $n $((n + 9))); do echo "INSERT INTO rows VALUES ($i, hex(randomblob(300)));"; done
        echo 'COMMIT;'; echo "SELECT $n + 9;"
    done"#;

/// How long the first transaction may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The last row of which SQLite said that it is committed; the last line may be cut off.
fn committed(said: &Path) -> u64 {
    let said = fs::read_to_string(said).unwrap_or_default();
    let complete = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete.lines().last().and_then(|line| line.parse().ok()).unwrap_or(0)
}

struct Database<'a> {
    volume: &'a mut Volume,
    mode: &'static str,
    name: String,
}

impl Database<'_> {
    fn sql(&self, text: &str) -> String {
        Run::within(&self.volume.path("")).shell(&format!("sqlite3 -bail {} \"{text}\"", self.name))
    }

    /// Writes until something is killed; the last row that SQLite said is committed.
    fn write_and_kill(&mut self, kills_the_filesystem: bool, after: Duration) -> u64 {
        let said = self.volume.beside(&format!("{}.committed", self.name));
        let home = self.volume.path("");
        let id = self.volume.beside(&format!("{}.id", self.name));
        let writer = format!(
            "echo $$ > {}; exec sqlite3 -bail {} > {} 2>/dev/null < <({WRITER})",
            id.display(),
            self.name,
            said.display()
        );
        let run = Run { directory: &home, user: None, seconds: 120 };
        let mut child = run.command(&writer).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + PATIENCE;
        while committed(&said) == 0 {
            assert!(Instant::now() < end, "nothing is committed");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(after);
        if kills_the_filesystem {
            self.volume.kill();
        } else {
            Run::within(&home).shell(&format!("kill -KILL $(cat {})", id.display()));
        }
        child.wait().unwrap();
        if kills_the_filesystem {
            self.volume.again();
        }
        committed(&said)
    }

    fn rounds(&mut self, rounds: u32) -> u64 {
        self.sql(&format!(
            "PRAGMA journal_mode={}; CREATE TABLE rows (id INTEGER PRIMARY KEY, text);",
            self.mode
        ));
        let mut kept = 0;
        for round in 0..rounds {
            self.sql("DELETE FROM rows;");
            let after = Duration::from_millis(400 + 137 * u64::from(round));
            let committed = self.write_and_kill(round % 2 == 0, after);
            assert_eq!(self.sql("PRAGMA integrity_check;").trim(), "ok", "{} round {round}", self.mode);
            let rows: u64 = self.sql("SELECT count(*) FROM rows;").trim().parse().unwrap();
            let last: u64 = self.sql("SELECT max(id) FROM rows;").trim().parse().unwrap();
            assert!(rows >= committed, "{} round {round}: {committed} committed, {rows} found", self.mode);
            assert_eq!((rows, rows % 10), (last, 0), "{} round {round}: half a transaction", self.mode);
            kept += committed;
        }
        kept
    }
}

#[test]
fn sqlite_keeps_what_it_committed_through_kills() {
    if !can_mount() {
        return;
    }
    report("sqlite", || {
        let mut volume = Volume::mounted("sqlite", Kind::Disk);
        let rounds = scaled(4, 50);
        let kept: Vec<u64> = ["DELETE", "WAL"]
            .map(|mode| Database { volume: &mut volume, mode, name: format!("{mode}.db") }.rounds(rounds))
            .into();
        format!("{rounds} kills in each journal mode, integrity ok, {kept:?} committed rows all there")
    });
}
