//! Starts the parts, ends them when their time is over, and writes their results.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Args;
use crate::case::{self, Float};
use crate::entry::Entry;
use crate::part::Part;
use crate::report;

/// How long a part may be late before it is killed.
const GRACE: Duration = Duration::from_secs(8);
/// How often a part that crashes is started again, after the case that it crashed in.
const RESTARTS: usize = 3;

pub fn run(args: &Args) -> Result<(), String> {
    fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    let mut results = Results {
        entries: Vec::new(),
        folder: &args.out,
        started: Instant::now(),
    };
    // The last part may be late, and before this program starts, it may have to be unpacked.
    let total = (60.0 * args.minutes - 3.0 * GRACE.as_secs_f64()).max(1.0);
    for part in Part::ALL {
        let end = results.started + Duration::from_secs_f64(total * part.ends_at());
        let started = Instant::now();
        let before = results.entries.len();
        println!(
            "{}: at most {:.0} s",
            part.name(),
            (end - started).as_secs_f64()
        );
        results.collect(part, args, end)?;
        let found = results.entries.len() - before;
        let seconds = started.elapsed().as_secs_f64();
        println!("{}: {found} results in {seconds:.0} s", part.name());
        if part == Part::Machine && found == 0 {
            return Err("there is no device to measure".into());
        }
    }
    results.write()?;
    println!(
        "\n{}",
        fs::read_to_string(args.out.join("results.md")).unwrap_or_default()
    );
    println!("results.json and results.md are in {}", args.out.display());
    Ok(())
}

struct Results<'a> {
    entries: Vec<Entry>,
    folder: &'a Path,
    started: Instant,
}

impl Results<'_> {
    fn add(&mut self, entry: Entry) -> Result<(), String> {
        if let Entry::Note { part, case, text } = &entry {
            let case = case.as_ref().map(|case| format!("{case}: "));
            println!("{part}: {}{text}", case.unwrap_or_default());
        }
        self.entries.push(entry);
        self.write()
    }

    /// Replaces the files, each in one step.
    fn write(&self) -> Result<(), String> {
        let seconds = self.started.elapsed().as_secs_f64();
        let all = json!({ "seconds": seconds, "results": self.entries });
        let put = |name: &str, text: String| {
            let new = self.folder.join(format!("{name}.new"));
            fs::write(&new, text)?;
            fs::rename(new, self.folder.join(name))
        };
        put("results.json", format!("{all:#}\n"))
            .and_then(|()| put("results.md", report::markdown(&self.entries, seconds)))
            .map_err(|error| format!("{}: {error}", self.folder.display()))
    }

    /// Runs a part, again after each crash, until it ends or its time does.
    fn collect(&mut self, part: Part, args: &Args, end: Instant) -> Result<(), String> {
        let mut done = 0;
        for _ in 0..=RESTARTS {
            let log = self.folder.join(format!("{}.log", part.name()));
            let child = match start(part, args, end, done, &log) {
                Ok(child) => child,
                Err(reason) => return self.add(Entry::note(part.name(), reason)),
            };
            let (reported, failure) = self.follow(child, end, &log)?;
            let Some(failure) = failure else {
                return Ok(());
            };
            self.add(Entry::note(part.name(), failure))?;
            done += reported + 1;
            if Instant::now() > end || matches!(part, Part::Machine) {
                break;
            }
        }
        Ok(())
    }

    /// Adds what a process reports. Returns the number of cases that it reported and, if it did not end well, how it
    /// ended.
    fn follow(
        &mut self,
        mut child: Child,
        end: Instant,
        log: &Path,
    ) -> Result<(usize, Option<String>), String> {
        let output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let (mut reported, mut complete) = (0, false);
        loop {
            let left = (end + GRACE).saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => match serde_json::from_str(&line) {
                    Ok(Entry::End) => complete = true,
                    Ok(entry) => {
                        reported += usize::from(!matches!(entry, Entry::About { .. }));
                        self.add(entry)?;
                    }
                    // Of a library, say.
                    Err(_) => println!("{line}"),
                },
                Err(RecvTimeoutError::Timeout) => {
                    child.kill().and_then(|()| child.wait()).ok();
                    return Ok((reported, Some("stopped within a case, out of time".into())));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        let failure = (!complete && !status.success()).then(|| {
            let said = fs::read_to_string(log).unwrap_or_default();
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            format!("ended with {status}: {}", last.unwrap_or_default())
        });
        Ok((reported, failure))
    }
}

/// Starts the process of a part, which leaves out the cases that are `done`.
fn start(part: Part, args: &Args, end: Instant, done: usize, log: &Path) -> Result<Child, String> {
    let seconds = end.saturating_duration_since(Instant::now()).as_secs_f64();
    let log = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    if part == Part::Torch {
        let mut python = Command::new(&args.python);
        python
            .arg(&args.peer)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let started = python.spawn();
        let mut child = started.map_err(|error| format!("{}: {error}", args.python.display()))?;
        let job = json!({
            "cases": case::all(args.quick, &Float::ALL),
            "quick": args.quick,
            "seconds": seconds,
            "skip": done,
            "device": args.torch_device,
            "data": args.data,
        });
        let mut input = child.stdin.take().expect("its input is piped");
        // A process that has ended already says why.
        writeln!(input, "{job}").ok();
        return Ok(child);
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .args(["--part", part.name()])
        .args(["--seconds", &seconds.to_string()])
        .args(["--skip", &done.to_string()]);
    if args.quick {
        command.arg("--quick");
    }
    if let Some(device) = &args.device {
        command.args(["--device", device]);
    }
    if let Some(data) = &args.data {
        command.arg("--data").arg(data);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    command.spawn().map_err(|error| error.to_string())
}
