//! Measures what the steps and pictures of the live lab cost, with four networks; and how many steps an open page
//! costs, and how many pictures it gets, with one network and with four.
//!
//! ```text
//! cargo bench --bench live
//! ```

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use burn_kindling_lab::data::Mnist;
use burn_kindling_lab::device;
use burn_kindling_lab::live::{Bench, BenchConfig, Live, LiveConfig, NetworkConfig};
use burn_kindling_lab::model::Normalization;

/// The time that this process has spent on all cores, in steps of 10 ms; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |place: usize| {
        fields
            .get(place)
            .and_then(|it| it.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

/// A page that reads the frames and draws nothing.
struct Page(BufReader<TcpStream>);

impl Page {
    fn open(live: &Live) -> Self {
        let mut stream = TcpStream::connect(live.address()).expect("the server listens");
        let (token, address) = (live.token(), live.address());
        write!(
            stream,
            "GET /events?token={token} HTTP/1.1\r\nHost: {address}\r\n\r\n"
        )
        .expect("the server reads");
        Self(BufReader::new(stream))
    }

    /// Waits for the next frame, and returns its step.
    fn frame(&mut self) -> f64 {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a frame comes");
            let step = line.strip_prefix("data: {\"step\":");
            if let Some(step) = step.and_then(|rest| rest.split(',').next()) {
                return step.parse().expect("a step");
            }
        }
    }

    /// Skips the frames that there were before, and returns the step of the first new one.
    fn now(&mut self) -> f64 {
        loop {
            let start = Instant::now();
            let step = self.frame();
            // Those before come at once.
            if start.elapsed() > Duration::from_millis(30) {
                return step;
            }
        }
    }

    /// Reads on for this long; returns how many frames came.
    fn read(&mut self, time: Duration) -> usize {
        let start = Instant::now();
        let frames = std::iter::from_fn(|| (start.elapsed() < time).then(|| self.frame()));
        frames.count()
    }
}

/// Prints the steps and the pictures a second. With and without a page take turns, as other programs do.
fn page(data: Mnist, networks: usize) {
    let live = Live::start(LiveConfig {
        data,
        data_name: "MNIST".into(),
        device: device::open("flex").expect("the CPU"),
        address: ([127, 0, 0, 1], 0).into(),
        bench: BenchConfig {
            networks: vec![NetworkConfig::default(); networks],
            play: true,
            ..BenchConfig::default()
        },
    });
    let live = live.expect("the lab starts");
    let (mut frames, mut steps, mut seconds) = (0, [0.0; 2], [0.0; 2]);
    // The bench goes on for ten seconds without a page.
    let turn = Duration::from_secs(5);
    let mut page = Page::open(&live);
    for _ in 0..8 {
        let (first, start) = (page.now(), Instant::now());
        frames += page.read(turn);
        let (last, end) = (page.frame(), Instant::now());
        drop(page);
        std::thread::sleep(turn);
        page = Page::open(&live);
        let next = page.now();
        steps = [steps[0] + last - first, steps[1] + next - last];
        let took = [end - start, end.elapsed()].map(|it| it.as_secs_f64());
        seconds = [seconds[0] + took[0], seconds[1] + took[1]];
    }
    let [with, without] = [0, 1].map(|place| steps[place] / seconds[place]);
    println!(
        "{networks} default networks: {with:.1} steps/s with a page, {without:.1} without: {:.1} % lost, {:.1} pictures/s",
        100.0 * (1.0 - with / without),
        frames as f64 / seconds[0]
    );
}

/// Prints what everything costs.
fn main() {
    let data = Mnist::find(None).and_then(|folder| Mnist::load(&folder));
    let data = data.expect("the data of the repository");
    for (name, layer) in [
        (
            "5 layers, batch norm",
            NetworkConfig {
                norm: Normalization::Batch,
                ..NetworkConfig::default()
            },
        ),
        (
            "10 layers",
            NetworkConfig {
                depth: 10,
                ..NetworkConfig::default()
            },
        ),
    ] {
        let config = BenchConfig {
            networks: vec![layer; 4],
            batch: 128,
            seed: 7,
            play: true,
        };
        let mut bench = Bench::new(&config, &data, &Device::flex())
            .unwrap_or_else(|error| panic!("{}", error.en));
        let time = |what: &str, count: usize, bench: &mut Bench, run: &dyn Fn(&mut Bench)| {
            let start = (std::time::Instant::now(), cpu_seconds());
            for _ in 0..count {
                run(bench);
            }
            let [wall, cpu] = [start.0.elapsed().as_secs_f64(), cpu_seconds() - start.1];
            let [wall, cpu] = [wall, cpu].map(|seconds| 1e3 * seconds / count as f64);
            println!("4 networks, {name}: {what} {wall:.2} ms, {cpu:.2} ms of a core");
        };
        time("first step", 1, &mut bench, &Bench::advance);
        for _ in 0..2 {
            time("step", 200, &mut bench, &Bench::advance);
            time("watched step", 100, &mut bench, &Bench::advance_watched);
        }
        time("look", 50, &mut bench, &Bench::look);
        time("answer", 50, &mut bench, &Bench::answer);
        time("evaluate", 20, &mut bench, &Bench::evaluate);
        time("frame in JSON", 200, &mut bench, &|bench| {
            drop(bench.frame(1.0))
        });
        println!("{} bytes", bench.frame(1.0).len());
    }
    for networks in [1, 4] {
        page(data.clone(), networks);
    }
}
