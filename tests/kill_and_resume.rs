//! Training survives: a process that is killed or cannot write leaves a folder that `--resume` continues from.
#![cfg(all(feature = "flex", unix))]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use burn_kindling_lab::train::{RunResult, RunSetup};
use common::{example, small_data};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A folder for data and runs.
struct Workshop {
    device: &'static str,
    epochs: usize,
    scratch: tempfile::TempDir,
    data: PathBuf,
}

impl Workshop {
    fn new() -> Self {
        Self::on("flex")
    }

    fn on(device: &'static str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let data = small_data(scratch.path(), 1_200);
        Self {
            device,
            epochs: 12,
            scratch,
            data,
        }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The command that starts a run in the folder, or resumes the run that is there.
    fn train(&self, run: &Path) -> Command {
        let mut command = example("mnist");
        // A run with both files already has its device and data.
        match run.join("config.json").exists() && run.join("setup.json").exists() {
            true => command.arg("--resume").arg(run),
            false => {
                command.args(["--device", self.device]);
                command.arg("--data").arg(&self.data);
                match run.join("config.json").exists() {
                    true => command.arg("--resume").arg(run),
                    false => command
                        .args(["--hidden", "30,30", "--batch-size", "32"])
                        .args(["--epochs", &self.epochs.to_string()])
                        .arg("--out")
                        .arg(run),
                }
            }
        };
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn finish(&self, run: &Path) {
        let output = self.train(run).output().unwrap();
        assert!(output.status.success(), "{}", message(&output));
    }
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that a command failed with an error, not a panic, whose message contains `names`. Returns the message.
fn failure(output: &Output, names: &str) -> String {
    let text = message(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error:") && text.contains(names), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Sends SIGKILL, which no process can catch.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn wait_for(path: &Path, child: &mut Child) {
    while !path.exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the run ended by itself"
        );
        std::thread::yield_now();
    }
}

/// Every file of a run.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path).into_iter().map(|file| path.join(file))),
            false => drop(files.insert(path)),
        }
    }
    let inside = |file: PathBuf| file.strip_prefix(folder).unwrap().to_path_buf();
    files.into_iter().map(inside).collect()
}

/// Asserts that two runs ended alike: bit-identical records, the same scores, the same files.
fn assert_same(run: &Path, whole: &Path) {
    let record = |run: &Path| fs::read(run.join("model.bpk")).unwrap();
    assert!(record(run) == record(whole), "the records differ");
    let result = |run: &Path| -> RunResult {
        serde_json::from_slice(&fs::read(run.join("result.json")).unwrap()).unwrap()
    };
    let (result, expected) = (result(run), result(whole));
    assert_eq!(result.epochs, expected.epochs);
    assert_eq!(result.test, expected.test);
    assert_eq!(files(run), files(whole));
}

#[test]
fn a_run_that_is_killed_at_any_moment_ends_as_one_that_was_not() {
    kill_at_random_moments("flex");
}

#[cfg(feature = "ndarray")]
#[test]
fn so_does_one_on_ndarray() {
    kill_at_random_moments("ndarray");
}

fn kill_at_random_moments(device: &'static str) {
    const KILLS: usize = 25;
    let workshop = Workshop::on(device);
    let whole = workshop.run("whole");
    let started = Instant::now();
    workshop.finish(&whole);
    let duration = started.elapsed();

    let mut random = StdRng::seed_from_u64(7);
    let mut kills = 0;
    for number in 0.. {
        let run = workshop.run(&format!("killed-{number}"));
        while !run.join("result.json").exists() {
            let mut child = workshop.train(&run).spawn().unwrap();
            let moment = duration.mul_f64(random.random_range(0.0..1.0));
            let started = Instant::now();
            while kills < KILLS && started.elapsed() < moment && child.try_wait().unwrap().is_none()
            {
                std::thread::sleep(Duration::from_micros(200));
            }
            if kills < KILLS && child.try_wait().unwrap().is_none() {
                kill(child);
                kills += 1;
                continue;
            }
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", message(&output));
        }
        // A kill after the last file was written leaves nothing to do.
        assert_same(&run, &whole);
        if kills == KILLS {
            break;
        }
    }
}

#[test]
fn a_run_that_is_killed_before_its_first_checkpoint_starts_over() {
    let workshop = Workshop::new();
    let (whole, run) = (workshop.run("whole"), workshop.run("killed"));
    workshop.finish(&whole);
    let mut child = workshop.train(&run).spawn().unwrap();
    wait_for(&run.join("config.json"), &mut child);
    kill(child);
    assert!(!run.join("metrics.json").exists(), "it was killed in time");
    // Files left by a process that is killed while it writes.
    for name in [
        ".writing-a",
        "checkpoint/.writing-b",
        "checkpoint/scheduler-8.bpk",
    ] {
        let leftover = run.join(name);
        fs::create_dir_all(leftover.parent().unwrap()).unwrap();
        fs::write(leftover, "half a file").unwrap();
    }
    workshop.finish(&run);
    assert_same(&run, &whole);

    // If a run was killed before it had a configuration, there is nothing to resume and nothing in the way.
    let run = workshop.run("stillborn");
    fs::create_dir(&run).unwrap();
    fs::write(run.join(".writing-a"), "half a file").unwrap();
    workshop.finish(&run);
    assert_same(&run, &whole);
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let workshop = Workshop::new();
    let (whole, run) = (workshop.run("whole"), workshop.run("killed"));
    workshop.finish(&whole);
    let mut child = workshop.train(&run).spawn().unwrap();
    wait_for(&run.join("checkpoint/scheduler-5.bpk"), &mut child);
    kill(child);
    assert!(!run.join("result.json").exists(), "it was killed in time");
    let checkpoint = |epoch| run.join(format!("checkpoint/model-{epoch}.bpk"));
    let last = (1..=12).rev().find(|&epoch| checkpoint(epoch).exists());
    let checkpoint = checkpoint(last.unwrap());
    let mut bytes = fs::read(&checkpoint).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&checkpoint, bytes).unwrap();
    workshop.finish(&run);
    assert_same(&run, &whole);
}

#[test]
fn a_checkpoint_of_another_network_is_told_by_what_differs() {
    let workshop = Workshop::new();
    let run = workshop.run("changed");
    let mut child = workshop.train(&run).spawn().unwrap();
    wait_for(&run.join("checkpoint/scheduler-3.bpk"), &mut child);
    kill(child);
    let config = run.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen("30", "31", 1)).unwrap();
    let text = failure(&workshop.train(&run).output().unwrap(), "checkpoint");
    assert!(
        text.contains("hidden.0.affine.weight [784, 31], found [784, 30]"),
        "{text}"
    );
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_costs_no_checkpoint() {
    let workshop = Workshop::new();
    let (whole, run) = (workshop.run("whole"), workshop.run("full"));
    workshop.finish(&whole);
    let mut child = workshop.train(&run).spawn().unwrap();
    wait_for(&run.join("checkpoint/scheduler-3.bpk"), &mut child);
    kill(child);
    let before = files(&run);

    // Make the system refuse writes by a limit on the file size: 16 KiB, less than any checkpoint.
    let train = workshop.train(&run);
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$@\"", "sh"])
        .arg(train.get_program())
        .args(train.get_args())
        .output()
        .unwrap();
    let text = failure(&output, "cannot write");
    assert!(text.contains("checkpoint"), "{text}");
    // Files below the limit are complete; nothing is left of larger files.
    for file in files(&run).difference(&before) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with("scheduler") || name == "metrics.json",
            "{name}"
        );
        assert!(
            fs::metadata(run.join(file)).unwrap().len() <= 16 * 1024,
            "{name}"
        );
    }

    workshop.finish(&run);
    assert_same(&run, &whole);
}

#[test]
fn a_folder_that_goes_away_ends_the_run_with_its_name() {
    let workshop = Workshop::new();
    let run = workshop.run("deleted");
    let mut child = workshop.train(&run).spawn().unwrap();
    wait_for(&run.join("metrics.json"), &mut child);
    // The run may write a file between the listing and the removal.
    while fs::remove_dir_all(&run).is_err() {}
    let output = child.wait_with_output().unwrap();
    failure(&output, run.to_str().unwrap());
    assert!(!run.exists(), "it was not made again");
}

#[test]
fn a_resumed_run_takes_the_devices_and_the_data_it_had() {
    let workshop = Workshop::new();
    let run = workshop.run("two-devices");
    let mut command = example("mnist");
    command
        .args(["--no-tui", "--devices", "flex,flex"])
        .args(["--hidden", "30", "--epochs", "200", "--batch-size", "32"])
        .arg("--data")
        .arg(&workshop.data)
        .arg("--out")
        .arg(&run);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for(&run.join("checkpoint/scheduler-3.bpk"), &mut child);
    kill(child);
    let setup = || -> RunSetup {
        serde_json::from_slice(&fs::read(run.join("setup.json")).unwrap()).unwrap()
    };
    let before = setup();
    assert_eq!(before.devices, ["flex", "flex"]);
    assert_eq!(before.images, 1_200);

    let epochs = || {
        let metrics = fs::read_to_string(run.join("metrics.json")).unwrap_or_default();
        metrics.matches("\"epoch\"").count()
    };
    // Resumes, and interrupts after another epoch. The run can be resumed again.
    let resume = |flags: &[&str]| {
        let known = epochs();
        let mut command = example("mnist");
        command.args(["--no-tui", "--resume"]).arg(&run).args(flags);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        while epochs() <= known {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", message(&output));
        message(&output)
    };
    let text = resume(&[]);
    assert!(!text.contains("not to the same result"), "{text}");
    assert_eq!(setup(), before);
    let text = resume(&["--device", "flex"]);
    assert!(
        text.contains("it was trained on flex,flex, not flex"),
        "{text}"
    );
    assert_eq!(setup().devices, ["flex"]);

    let other = workshop.run("other");
    fs::create_dir(&other).unwrap();
    let other = small_data(&other, 1_000);
    let text = resume(&["--data", other.to_str().unwrap()]);
    assert!(text.contains("it had other training images"), "{text}");
    // The learning rate falls from epoch to epoch, wherever the run was resumed.
    let metrics: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(run.join("metrics.json")).unwrap()).unwrap();
    let rates = metrics
        .iter()
        .map(|epoch| epoch["learning_rate"].as_f64().unwrap());
    assert!(rates.is_sorted_by(|a, b| a > b), "{metrics:?}");
}

/// Sends the signal of Ctrl-C to a process without a terminal.
fn interrupt(child: &Child) {
    // SAFETY: the process is a child that has not been waited for, so the id still belongs to it.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
}

/// A terminal, and a run in its dashboard.
#[cfg(target_os = "linux")]
struct Screen {
    child: Child,
    keys: fs::File,
    terminal: fs::File,
    shown: std::thread::JoinHandle<String>,
}

#[cfg(target_os = "linux")]
impl Screen {
    fn new(mut command: Command) -> Self {
        use std::io::Read;
        use std::os::fd::FromRawFd;
        use std::os::unix::process::CommandExt;

        let size = libc::winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut keys, mut terminal) = (0, 0);
        // SAFETY: the two numbers are written, the size is read, and nothing else is passed.
        let opened = unsafe {
            let nothing = std::ptr::null_mut();
            libc::openpty(&mut keys, &mut terminal, nothing, std::ptr::null(), &size)
        };
        assert_eq!(opened, 0);
        // SAFETY: both were opened above, and nothing else owns them.
        let [keys, terminal] = [keys, terminal].map(|file| unsafe { fs::File::from_raw_fd(file) });
        let stream = || Stdio::from(terminal.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        // SAFETY: both system calls are allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let mut output = keys.try_clone().unwrap();
        let shown = std::thread::spawn(move || {
            let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
            // Reading fails when the terminal's last user is gone.
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                shown.extend_from_slice(&buffer[..count]);
            }
            String::from_utf8_lossy(&shown).into_owned()
        });
        Self {
            child,
            keys,
            terminal,
            shown,
        }
    }

    fn press(&mut self, keys: &[u8]) {
        use std::io::Write;
        self.keys.write_all(keys).unwrap();
    }

    /// Waits for the end, checks that the terminal is restored, and returns the text printed after the dashboard.
    fn end(mut self) -> String {
        use std::os::fd::AsRawFd;

        let status = self.child.wait().unwrap();
        let mut modes = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the file is a terminal, and the modes are written before they are read.
        let modes = unsafe {
            assert_eq!(
                libc::tcgetattr(self.terminal.as_raw_fd(), modes.as_mut_ptr()),
                0
            );
            modes.assume_init()
        };
        drop(self.terminal);
        let shown = self.shown.join().unwrap();
        assert_eq!(status.code(), Some(130), "{shown}");
        for mode in [libc::ICANON, libc::ECHO, libc::ISIG] {
            assert_ne!(modes.c_lflag & mode, 0, "the terminal is not restored");
        }
        let (dashboard, after) = shown
            .rsplit_once("\x1b[?1049l")
            .expect("it left the dashboard");
        assert!(dashboard.contains("\x1b[?1049h"), "it was in the dashboard");
        assert!(!after.contains("panicked"), "{after}");
        after.to_string()
    }
}

/// Ctrl-C, `q` then `s`, and `q` then `k` each leave a run that can be resumed, and say how.
#[cfg(target_os = "linux")]
#[test]
fn the_dashboard_is_left_by_ctrl_c_or_q() {
    let mut workshop = Workshop::new();
    workshop.epochs = 150;
    let whole = workshop.run("whole");
    workshop.finish(&whole);
    for (name, keys) in [
        ("ctrl-c", &[&b"\x03"[..]][..]),
        ("q-s", &[b"q", b"s"]),
        ("q-k", &[b"q", b"k"]),
    ] {
        let run = workshop.run(name);
        let mut screen = Screen::new(workshop.train(&run));
        wait_for(&run.join("checkpoint/scheduler-1.bpk"), &mut screen.child);
        for key in keys {
            screen.press(key);
            std::thread::sleep(Duration::from_millis(300));
        }
        let after = screen.end();
        let hint = format!("--resume {}", run.display());
        assert!(after.contains(&hint), "{after}");
        workshop.finish(&run);
        assert_same(&run, &whole);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let workshop = Workshop::new();
    // Not even root can make a folder here.
    let run = Path::new("/proc/run");
    failure(&workshop.train(run).output().unwrap(), "/proc/run");
}
