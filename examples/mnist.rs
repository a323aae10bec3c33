//! Trains a network on MNIST: `cargo run --release --example mnist`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::observe::Report;
use burn_kindling_lab::cli::{self, DataFlag, DeviceFlag};
use burn_kindling_lab::data::{Loader, Mnist};
use burn_kindling_lab::device::{self, DeviceError, Found};
use burn_kindling_lab::model::{
    Classifier, CnnConfig, MlpConfig, ModelConfig, Normalization, ResnetConfig,
};
use burn_kindling_lab::train::{
    Display, Interrupter, OptimizerKind, Outcome, Precision, RunFolder, RunResult, RunSetup,
    Schedule, TrainConfig, TrainError, Trainer,
};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueEnum};

/// Train a network to read handwritten digits, and see the effect of its initialisation and its
/// normalisation.
///
/// Without any flag, trains a perceptron of five hidden layers of 100 units with ReLU, He
/// initialisation and batch normalisation for 10 epochs. Each run writes its configuration, its
/// metrics, its result and the trained record to its own folder.
#[derive(Parser)]
#[command(name = "mnist", max_term_width = 100)]
struct Args {
    /// Network: a multi-layer perceptron, two convolutions and two dense layers, or a residual network
    #[arg(long, value_enum, default_value = "mlp", help_heading = "Network")]
    model: Kind,

    /// Units of each hidden layer of the perceptron, separated by commas [default: 100,100,100,100,100]
    #[arg(long, value_name = "UNITS", value_delimiter = ',', value_parser = cli::positive, allow_negative_numbers = true,
          help_heading = "Network")]
    hidden: Option<Vec<usize>>,

    /// Number of hidden layers of the perceptron, all of --width units; of the residual network, layers with weights:
    /// 8, 14, 20 or another 6n + 2 [default: 5 and 8]
    #[arg(long, value_name = "LAYERS", value_parser = cli::positive, allow_negative_numbers = true,
          conflicts_with = "hidden", help_heading = "Network")]
    depth: Option<usize>,

    /// Units of each hidden layer of the perceptron; of the residual network, channels of its first stage [default: 100
    /// and 16]
    #[arg(long, value_name = "UNITS", value_parser = cli::positive, allow_negative_numbers = true,
          conflicts_with = "hidden", help_heading = "Network")]
    width: Option<usize>,

    /// Activation of the hidden layers
    #[arg(long, value_name = "NAME", default_value = "relu", value_parser = names::<Activation>(&Activation::NAMES),
          help_heading = "Network")]
    activation: Activation,

    /// Initial weights: all 0; N(0, 1); N(0, 0.01²); N(0, 1/n); N(0, 2/n), with n inputs per unit
    /// [default: xavier for sigmoid and tanh, he for the others]
    #[arg(long, value_name = "NAME", value_parser = names::<InitStrategy>(&InitStrategy::NAMES), help_heading = "Network")]
    init: Option<InitStrategy>,

    /// Normalisation before each activation: none, this crate's batch normalisation, or Burn's
    #[arg(long, value_name = "NAME", default_value = "batch", value_parser = names::<Normalization>(&Normalization::NAMES),
          help_heading = "Network")]
    norm: Normalization,

    /// Passes over the 55,000 training images
    #[arg(long, value_name = "COUNT", default_value = "10", value_parser = cli::positive, allow_negative_numbers = true, help_heading = "Training")]
    epochs: usize,

    /// Images per training step; with several devices, per device
    #[arg(long, value_name = "COUNT", default_value = "128", value_parser = cli::positive, allow_negative_numbers = true, help_heading = "Training")]
    batch_size: usize,

    /// Optimiser
    #[arg(long, value_name = "NAME", default_value = "adam", value_parser = names::<OptimizerKind>(&OptimizerKind::NAMES),
          help_heading = "Training")]
    optimizer: OptimizerKind,

    /// Learning rate [default: 1e-3, for the residual network 5e-3]
    #[arg(long, value_name = "RATE", value_parser = positive_real, allow_negative_numbers = true, help_heading = "Training")]
    lr: Option<f64>,

    /// Learning rate over the run: constant, or falling to 0 along a cosine
    #[arg(long, value_name = "NAME", default_value = "cosine", value_parser = names::<Schedule>(&Schedule::NAMES),
          help_heading = "Training")]
    schedule: Schedule,

    /// Float type of the layers in training; parameters, batch norm's statistics and the loss stay f32
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = names::<Precision>(&Precision::NAMES),
          help_heading = "Training")]
    dtype: Precision,

    /// Stop early after this many epochs without a lower validation loss
    #[arg(long, value_name = "EPOCHS", value_parser = cli::positive, allow_negative_numbers = true, help_heading = "Training")]
    patience: Option<usize>,

    /// Seed of the initial weights and of the order of the images
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "42",
        allow_negative_numbers = true,
        help_heading = "Training"
    )]
    seed: u64,

    #[command(flatten, next_help_heading = "Machine and files")]
    device: DeviceFlag,

    /// Devices to train on at once, separated by commas, each with its own batches; the first validates and tests
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "device",
        help_heading = "Machine and files"
    )]
    devices: Vec<String>,

    /// Normalise by the statistics of all --devices' batches together, as one device with the whole batch would
    #[arg(long, requires = "devices", help_heading = "Training")]
    sync_norm: bool,

    #[command(flatten, next_help_heading = "Machine and files")]
    data: DataFlag,

    /// Folder for this run [default: a new one under runs/]
    #[arg(long, value_name = "DIR", help_heading = "Machine and files")]
    out: Option<PathBuf>,

    /// Continue the run in this folder after its last finished epoch, with its configuration, devices and data
    /// [with another --device, --devices or --data, the learning-rate schedule continues but the exact result is lost]
    #[arg(long, value_name = "DIR", help_heading = "Machine and files",
          conflicts_with_all = ["out", "model", "hidden", "depth", "width", "activation", "init", "norm", "epochs", "batch_size",
                                "optimizer", "lr", "schedule", "dtype", "sync_norm", "patience", "seed"])]
    resume: Option<PathBuf>,

    /// Print plain lines instead of the full-screen dashboard, even in a terminal
    #[arg(long, help_heading = "Machine and files")]
    no_tui: bool,

    /// Print a table of all layers before and after the training: activations, gradients, and what is wrong with them
    #[arg(long, help_heading = "Machine and files")]
    explain: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Mlp,
    Cnn,
    Resnet,
}

/// Takes the names of an enum, and lists them in the help and in the error.
fn names<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr + Clone + Send + Sync + 'static,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

fn positive_real(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("expected a number above 0".into()),
    }
}

impl Args {
    fn config(&self) -> TrainConfig {
        let init = self
            .init
            .unwrap_or_else(|| InitStrategy::recommended_for(self.activation));
        let usual = MlpConfig::new().hidden;
        let hidden = self.hidden.clone();
        let hidden = hidden.unwrap_or_else(|| {
            vec![self.width.unwrap_or(usual[0]); self.depth.unwrap_or(usual.len())]
        });
        TrainConfig {
            model: match self.model {
                Kind::Mlp => ModelConfig::Mlp(
                    MlpConfig::new()
                        .with_hidden(hidden)
                        .with_activation(self.activation)
                        .with_init(init)
                        .with_norm(self.norm),
                ),
                Kind::Cnn => ModelConfig::Cnn(
                    CnnConfig::new()
                        .with_activation(self.activation)
                        .with_init(init)
                        .with_norm(self.norm),
                ),
                Kind::Resnet => {
                    let usual = ResnetConfig::new();
                    let (depth, channels) = (usual.depth, usual.channels);
                    ModelConfig::Resnet(
                        usual
                            .with_depth(self.depth.unwrap_or(depth))
                            .with_channels(self.width.unwrap_or(channels))
                            .with_activation(self.activation)
                            .with_init(init)
                            .with_norm(self.norm),
                    )
                }
            },
            optimizer: self.optimizer,
            learning_rate: self.lr.unwrap_or(match self.model {
                Kind::Mlp | Kind::Cnn => 1e-3,
                Kind::Resnet => 5e-3,
            }),
            schedule: self.schedule,
            epochs: self.epochs,
            batch_size: self.batch_size,
            dtype: self.dtype,
            sync_norm: self.sync_norm,
            seed: self.seed,
            patience: self.patience,
        }
    }

    /// The devices to train on, which support the float type of the run: those of the flags, else those that the run
    /// had.
    fn devices(
        &self,
        dtype: Precision,
        before: Option<&RunSetup>,
    ) -> Result<Vec<Found>, TrainError> {
        let names = match (&self.device.device, before) {
            (None, Some(before)) if self.devices.is_empty() => &before.devices,
            _ => &self.devices,
        };
        let devices = match names.is_empty() {
            true => vec![self.device.pick()?],
            false => {
                let opened = names.iter().map(|name| device::open(name));
                opened.collect::<Result<_, DeviceError>>()?
            }
        };
        for Found { name, device, .. } in &devices {
            device::check_dtype(name, device, dtype)?;
        }
        Ok(devices)
    }

    /// The folder of a new run.
    fn folder(&self) -> Result<RunFolder, TrainError> {
        let config = self.config();
        match &self.out {
            Some(folder) => RunFolder::create(folder, &config),
            None => {
                let model = &config.model;
                let (activation, init, norm) = (model.activation(), model.strategy(), model.norm());
                let name = format!("{}-{activation}-{init}-{norm}", model.name());
                RunFolder::create_numbered(Path::new("runs"), &name, &config)
            }
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::keep_freed_memory();
    match run(&args) {
        Ok(Outcome::Interrupted) => ExitCode::from(130),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

fn run(args: &Args) -> Result<Outcome, Box<dyn std::error::Error>> {
    let has_size = args.depth.is_some() || args.width.is_some();
    let refused = match args.model {
        Kind::Cnn if has_size || args.hidden.is_some() => Some(
            "--hidden, --depth and --width set the layers of the perceptron; the CNN has none to set",
        ),
        Kind::Resnet if args.hidden.is_some() => Some(
            "--hidden sets the layers of the perceptron; the residual network has --depth and --width",
        ),
        _ => None,
    };
    if let Some(text) = refused {
        return Err(TrainError::Config(text.into()).into());
    }
    let resumed = args.resume.as_ref().map(RunFolder::open).transpose()?;
    let (config, before) = match &resumed {
        Some(folder) => {
            folder.check_unfinished()?;
            (folder.config()?, folder.setup()?)
        }
        None => (args.config(), None),
    };
    let devices = args.devices(config.dtype, before.as_ref())?;
    let of_devices = |name: fn(&Found) -> String| devices.iter().map(name).collect::<Vec<_>>();
    let data_folder = match (&args.data.data, &before) {
        (None, Some(before)) => before.data.clone(),
        _ => args.data.find()?,
    };
    let data = Mnist::load(&data_folder)?;
    let setup = RunSetup::new(
        of_devices(|found| found.name.clone()),
        &data_folder,
        &data.train,
    )?;
    let trainer = Trainer::parallel(devices.iter().map(|found| found.device.clone()).collect());
    let folder = match resumed {
        Some(folder) => folder,
        None => {
            // A run that cannot be trained must not leave a folder.
            trainer.validate(&config, &data.train_and_validation().0)?;
            args.folder()?
        }
    };
    folder.save_setup(&setup)?;
    cli::say(format_args!(
        "training {} ({}, {}, norm {}) on {}, into {}",
        config.model.name(),
        config.model.activation(),
        config.model.strategy(),
        config.model.norm(),
        of_devices(Found::to_string).join(" and "),
        folder.path().display(),
    ));
    for difference in before.iter().flat_map(|before| before.differences(&setup)) {
        cli::say(format_args!(
            "the run continues, but not to the same result: {difference}"
        ));
    }

    let images = data.train_and_validation().0.len();
    if config.batch_size * devices.len() >= images {
        cli::say(format_args!(
            "warning: an epoch is a single step, because there are only {images} training images"
        ));
    }

    let training = devices[0].device.clone().autodiff();
    let explain = |network: &Classifier| {
        let images = data.train_and_validation().0;
        network.observe_step(Loader::first_batch(&images, 128, &training))
    };
    if args.explain {
        let report = explain(&config.init_model(&training));
        print(&format!(
            "before the first step, on 128 images:\n{}",
            described(&report)
        ));
    }

    let display = match args.no_tui {
        true => Display::Lines,
        false => Display::detect(),
    };
    let interrupter = Interrupter::new();
    cli::stop_on_ctrl_c(&interrupter, display)?;
    let trained = trainer
        .with_display(display)
        .with_interrupter(interrupter)
        .run(&folder, &data);
    let result = match trained {
        Err(TrainError::Killed) => {
            cli::say(format_args!(
                "killed; to continue after the last finished epoch: {}",
                resume(&folder)
            ));
            return Ok(Outcome::Interrupted);
        }
        trained => trained?,
    };
    if args.explain && folder.record().exists() {
        let report = explain(&folder.load_model(&training)?);
        print(&format!(
            "after the last step, on the same images:\n{}",
            described(&report)
        ));
    }
    print(&summary(&result, &folder, &setup.devices.join(" and ")));
    let is_guessing = result.test.accuracy < 0.2 && result.outcome != Outcome::Interrupted;
    if is_guessing && !args.explain {
        let findings = explain(&config.init_model(&training)).diagnose();
        if !findings.is_empty() {
            print("\nThe network does not do better than guessing. Before its first step:\n");
        }
        for finding in findings {
            print(&format!("{finding}\n"));
        }
    }
    Ok(result.outcome)
}

/// Writes to standard output. If the reader has closed the pipe, the result is still on disk.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The tables of a report and the problems in it.
fn described(report: &Report) -> String {
    let mut text = format!("{report}\n");
    for finding in report.diagnose() {
        text += &format!("{finding}\n");
    }
    text + "\n"
}

/// The command that continues a run.
fn resume(folder: &RunFolder) -> String {
    let path = folder.path().display();
    format!("cargo run --release --example mnist -- --resume {path}")
}

fn summary(result: &RunResult, folder: &RunFolder, device: &str) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<14} {value}").expect("a string takes every line");
    };
    let test = &result.test;
    let accuracy = 100.0 * test.accuracy;
    let timing = &result.timing;
    let path = folder.path().display();
    line(
        "test accuracy",
        format!("{accuracy:.2} % (loss {:.4})", test.loss),
    );
    line(
        "training",
        format!(
            "{} epochs in {:.1} s, {:.0} images/s, on {device}{}",
            result.epochs.len(),
            timing.training_seconds,
            timing.images_per_second,
            match result.outcome {
                Outcome::Completed => "",
                Outcome::StoppedEarly => "; stopped early",
                Outcome::Diverged => "; stopped, because the loss became NaN or infinite",
                Outcome::Interrupted => "; interrupted",
            }
        ),
    );
    if result.skipped_steps > 0 {
        line(
            "skipped",
            format!("{} steps whose gradients overflowed", result.skipped_steps),
        );
    }
    line("parameters", result.parameters.to_string());
    let record = folder.record().display().to_string();
    let record = match (result.record_epoch, result.outcome) {
        (Some(epoch), _) => Some(format!("{record}, weights of epoch {epoch}")),
        (None, Outcome::Diverged) => None,
        (None, _) => Some(record),
    };
    match record {
        Some(record) => {
            line("record", record);
            line(
                "use it",
                format!("cargo run --release --example predict -- {path} --index 0"),
            );
        }
        None => line("record", "none: no finite weights are left".into()),
    }
    if result.outcome == Outcome::Diverged {
        line(
            "try",
            "a smaller --lr, --norm batch, or another --init".into(),
        );
    }
    if result.outcome == Outcome::Interrupted {
        line("continue", resume(folder));
    }
    text
}
