//! PostgreSQL with checksums, killed together with its filesystem.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ground::{Kind, Run, Volume, can_mount, report, scaled};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where Debian keeps the programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// The user that Debian made for it: it does not run as root.
const USER: &str = "postgres";
/// Rows that are committed before each crash, at least.
const LEAST: u64 = 50;
/// How long it may take to start, with the recovery after a crash.
const PATIENCE: Duration = Duration::from_secs(60);

struct Postgres {
    volume: Volume,
    /// Of its socket and its logs, beside the volume.
    run: PathBuf,
    process: Option<Child>,
}

impl Postgres {
    fn new() -> Self {
        let volume = Volume::mounted("postgres", Kind::Disk);
        let run = volume.beside("run");
        fs::create_dir_all(&run).unwrap();
        let postgres = Self { volume, run, process: None };
        let root = postgres.volume.beside("");
        Run::within(&root).shell(&format!("install -d -o {USER} -m 700 plain/data; chown {USER} run"));
        let settings = "fsync = on\nfull_page_writes = on\nmax_wal_size = '96MB'\ncheckpoint_timeout = '30s'\n\
            listen_addresses = ''\nautovacuum_naptime = '5s'\nwal_recycle = off\ndynamic_shared_memory_type = mmap\nshared_buffers = '32MB'\n";
        fs::write(postgres.run.join("settings"), settings).unwrap();
        postgres.run_as_user(&format!(
            "{PROGRAMS}/initdb --data-checksums --auth=trust --username=postgres -D {data} > init.log
             cat settings >> {data}/postgresql.conf",
            data = postgres.data().display()
        ));
        postgres
    }

    fn data(&self) -> PathBuf {
        self.volume.path("data")
    }

    fn run_as_user(&self, script: &str) -> String {
        let environment = format!("export PGHOST={} PGUSER=postgres PGDATABASE=postgres", self.run.display());
        Run::within(&self.run).as_user(USER).shell(&format!("{environment}\n{script}"))
    }

    fn start(&mut self) {
        let script = format!(
            "exec {PROGRAMS}/postgres -D {} -k {} >> server.log 2>&1",
            self.data().display(),
            self.run.display()
        );
        let run = Run { directory: &self.run, user: Some(USER), seconds: 3600 };
        self.process = Some(run.command(&script).spawn().unwrap());
        let end = Instant::now() + PATIENCE;
        let ready = format!("{PROGRAMS}/pg_isready -q -h {}", self.run.display());
        while Run::within(&self.run).attempt(&ready).is_err() {
            assert!(Instant::now() < end, "it does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.run.join("server.log")).unwrap_or_default()
    }

    /// The id of its first process, as it recorded it itself.
    fn id(&self) -> Pid {
        let record = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        Pid::from_raw(record.lines().next().unwrap().parse().unwrap())
    }

    /// Kills all of it at once, and with it the filesystem if told to.
    fn crash(&mut self, with_filesystem: bool) {
        let first = self.id();
        let children = format!("/proc/{first}/task/{first}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        if with_filesystem {
            self.volume.kill();
        }
        for process in std::iter::once(first)
            .chain(children.split(' ').filter_map(|id| Some(Pid::from_raw(id.parse().ok()?))))
        {
            let _ = kill(process, Signal::SIGKILL);
        }
        self.process.take().unwrap().wait().unwrap();
        if with_filesystem {
            self.volume.again();
        }
    }

    fn stop(&mut self) {
        self.run_as_user(&format!("{PROGRAMS}/pg_ctl stop -m fast -D {}", self.data().display()));
        self.process.take().unwrap().wait().unwrap();
    }

    /// Clients that write until it crashes: pgbench, and one that says what was committed.
    fn clients(&self) -> [Child; 2] {
        let environment = format!("export PGHOST={} PGUSER=postgres PGDATABASE=postgres", self.run.display());
        let spawn = |script: &str| {
            let run = Run { directory: &self.run, user: Some(USER), seconds: 600 };
            let mut command = run.command(&format!("{environment}\n{script}"));
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let journal = r#"from=$(psql -Atqc 'SELECT coalesce(max(id), 0) + 1 FROM journal')
            for n in $(seq $from 1000000); do echo "INSERT INTO journal VALUES ($n);"; echo "\\echo $n"; done | psql -Atq -v ON_ERROR_STOP=1 >> committed"#;
        [spawn(&format!("{PROGRAMS}/pgbench -c 2 -j 1 -T 600")), spawn(journal)]
    }

    /// The last row that was committed, by what the client was told.
    fn committed(&self) -> u64 {
        let committed = fs::read_to_string(self.run.join("committed")).unwrap_or_default();
        // The last line may be cut off.
        let complete = committed.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete.lines().last().and_then(|line| line.parse().ok()).unwrap_or(0)
    }

    /// Waits until clients are at work.
    fn wait_for_more_than(&self, committed: u64) {
        let end = Instant::now() + PATIENCE;
        while self.committed() < committed + LEAST {
            assert!(Instant::now() < end, "nothing is committed:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What must hold after a recovery: every committed row, the sums of pgbench, and the structure of tables and indexes.
    fn check(&self, round: u32) -> u64 {
        let committed = self.committed();
        let found = self.run_as_user("psql -Atqc 'SELECT count(*), max(id) FROM journal'");
        let (count, last) = found.trim().split_once('|').unwrap();
        assert_eq!(count, last, "round {round}: a row is missing");
        assert!(
            last.parse::<u64>().unwrap_or(0) >= committed,
            "round {round}: {committed} committed, {last} found"
        );
        let sums = self.run_as_user(
            "psql -Atqc 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches) \
             AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches)'",
        );
        assert_eq!(sums.trim(), "t", "round {round}: half a transaction");
        self.run_as_user(&format!(
            "{PROGRAMS}/pg_amcheck --install-missing --heapallindexed --parent-check --on-error-stop -j 1 postgres"
        ));
        committed
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            println!(
                "the end of PostgreSQL's log:\n{}",
                self.log().lines().rev().take(30).collect::<Vec<_>>().join("\n")
            );
            if self.data().join("postmaster.pid").exists() {
                let _ = kill(self.id(), Signal::SIGQUIT);
            }
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn postgresql_loses_nothing_when_it_and_its_filesystem_are_killed() {
    if !can_mount() {
        return;
    }
    report("postgresql", || {
        let mut postgres = Postgres::new();
        postgres.start();
        let scale = scaled(2, 10);
        postgres.run_as_user(&format!(
            "{PROGRAMS}/pgbench -i -q -s {scale} 2> bench.log; psql -qc 'CREATE TABLE journal (id int PRIMARY KEY)'"
        ));
        let rounds = scaled(4, 50);
        let mut committed = 0;
        for round in 0..rounds {
            let clients = postgres.clients();
            postgres.wait_for_more_than(committed);
            std::thread::sleep(Duration::from_millis(700 + 333 * u64::from(round % 5)));
            postgres.crash(round % 2 == 0);
            for mut client in clients {
                client.wait().unwrap();
            }
            postgres.start();
            committed = postgres.check(round);
        }
        postgres.stop();
        let checked = postgres
            .run_as_user(&format!("{PROGRAMS}/pg_checksums --check -D {}", postgres.data().display()));
        assert!(checked.contains("Bad checksums:  0"), "{checked}");
        let blocks = checked.lines().find_map(|line| line.strip_prefix("Blocks scanned: ")).unwrap().trim();
        format!(
            "{rounds} crashes, {committed} committed rows all there, amcheck clean, 0 of {blocks} blocks with a bad checksum"
        )
    });
}
