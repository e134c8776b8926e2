//! The flags.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::bench::Bench;

/// Answers from a language model in fewer steps, word for word the same.
#[derive(Debug, Parser)]
#[command(name = "upcycle", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer a prompt, streaming to standard output
    Run(Box<Run>),
    /// Talk with a model, turn by turn
    Chat(Box<Chat>),
    /// Keep what the drafter learns from a file of prompts, or from the model's whole vocabulary, so that answers start warm
    Warm(Box<Warm>),
    /// Measure drafters and backends beside plain decoding and peers, in one run
    Bench(Box<Bench>),
    /// Answer a prompt and show how, step by step, as one HTML page
    Trace(Box<Trace>),
    /// List the backends: which are compiled in, and on what devices they run
    Backends {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show what a model file holds, and which backends can load it
    Inspect {
        /// The GGUF file, or hf:owner/repo or hf:owner/repo/file, with @revision if wanted
        #[arg(value_hint = ValueHint::FilePath)]
        model: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write a model as an ONNX graph that scores draft trees, for the backend `ort`
    #[cfg(feature = "ort")]
    Export(Export),
    /// Work with configuration files
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a file and print it with all defaults written out
    Check {
        /// The TOML file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

#[cfg(feature = "ort")]
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The model: a GGUF file or a folder of safetensors, or hf:owner/repo or hf:owner/repo/file, with @revision if wanted
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: PathBuf,
    /// The folder to write; it must not be there yet
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) to: PathBuf,
    /// How weights are held
    #[arg(long, default_value = "f32", value_parser = ["f32", "f16", "int8", "int4"])]
    pub(crate) weights: String,
    /// Of int8 and int4: weights that share a scale (16, 32, 64, 128 or 256)
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub(crate) block: usize,
}

const PRECEDENCE: &str = "\
Settings: flags come first, then UPCYCLE_* environment variables (two underscores between levels: \
UPCYCLE_BACKEND__CPU__WEIGHTS=f32), then the configuration file, then defaults. Without a temperature, decoding is \
greedy; the seed is 0 unless set, so the same command always gives the same text.

Exit codes: 0; 1 for a failure (and for --compare if the texts differ); 2 for wrong usage or configuration; 130 after \
Ctrl-C, which ends the text after the step at hand.";

#[derive(Args, Debug)]
#[command(after_help = PRECEDENCE)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) prompt: PromptSource,

    /// Prompt with the text as it stands, without the model's chat template
    #[arg(long, help_heading = "Prompt")]
    pub(crate) raw: bool,
    /// With --prompts: start every prompt with an empty matrix, instead of carrying it on in file order [key:
    /// drafter.shared=false]
    #[arg(long, requires = "prompts", conflicts_with_all = ["prompt", "prompt_file"], help_heading = "Prompt")]
    pub(crate) cold: bool,

    /// Print what it took to standard error
    #[arg(long, help_heading = "Output")]
    pub(crate) stats: bool,
    /// Print one JSON object instead of the text: text, tokens (ids), prompt_tokens, finish, stats (seconds)
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Answer twice, with the drafter and by plain decoding, and print how they compare
    #[arg(long, conflicts_with_all = ["json", "prompts"], help_heading = "Output")]
    pub(crate) compare: bool,
}

const CHAT: &str = "\
In a terminal lines can be edited and called back; what was typed is kept in the user's state folder. Without one, each line \
of standard input is a message or a command, and the first that goes wrong ends the conversation.

Commands: /system, /reset, /retry, /save FILE, /load FILE, /stats, /set KEY VALUE, /help, /quit.

What is cached of the conversation so far is not read again. The drafter goes on learning; drafter.snapshot is kept at the \
end. Settings are those of `upcycle run`. Exit codes: 0; 1 for a failure; 2 for wrong usage or configuration.";

#[derive(Args, Debug)]
#[command(after_help = CHAT)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) settings: Settings,

    /// Instructions to the model
    #[arg(long, value_name = "TEXT", help_heading = "Conversation")]
    pub(crate) system: Option<String>,
    /// A conversation that /save wrote, to go on with
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Conversation")]
    pub(crate) load: Option<PathBuf>,

    /// Show in another colour which tokens were drafted: they came without a pass of their own
    #[arg(long, help_heading = "Output")]
    pub(crate) show_drafts: bool,
    /// Print what each answer took to standard error
    #[arg(long, help_heading = "Output")]
    pub(crate) stats: bool,
}

const WARM: &str = "\
A run whose drafter.snapshot names the file starts with what was learned. A snapshot that is there is carried on. Rows of \
prompts are learned too, whatever drafter.prompt_rows says, except with the paper's preset.

--vocabulary scores one row for each token that has none yet: about as long as reading a prompt of so many tokens takes, \
and needed once for a model. With --prompts too, it comes first.

Settings and exit codes are those of `upcycle run`; Ctrl-C ends the answer after the step at hand and keeps what was \
learned so far.";

#[derive(Args, Debug)]
#[command(after_help = WARM, group(ArgGroup::new("from").required(true).multiple(true).args(["prompts", "vocabulary"])))]
pub(crate) struct Warm {
    #[command(flatten)]
    pub(crate) settings: Settings,

    /// A file of many prompts, one JSON object a line: {"question_id": 1, "turns": ["…"]}; the first turns are answered
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Prompt")]
    pub(crate) prompts: Option<PathBuf>,
    /// Ask the model what it would say after each token of its vocabulary alone, for those of which nothing is known yet
    #[arg(long, help_heading = "Prompt")]
    pub(crate) vocabulary: bool,
    /// Prompt with the text as it stands, without the model's chat template
    #[arg(long, help_heading = "Prompt")]
    pub(crate) raw: bool,

    /// The snapshot to write [key: drafter.snapshot]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output")]
    pub(crate) out: String,
}

const TRACE: &str = "\
The page needs no network. It draws the draft tree of every step, which drafts were accepted, what the model ranked \
after each node, and what the drafter learned. A drafter.snapshot is read and left as it is.

Settings and exit codes are those of `upcycle run`; Ctrl-C ends the text after the step at hand and writes the page of \
what there is.";

#[derive(Args, Debug)]
#[command(after_help = TRACE)]
pub(crate) struct Trace {
    #[command(flatten)]
    pub(crate) settings: Settings,

    /// The prompt; standard input is read if no prompt is given
    #[arg(short, long, value_name = "TEXT", conflicts_with = "prompt_file", help_heading = "Prompt")]
    pub(crate) prompt: Option<String>,
    /// A file with the prompt; one line end at its end is left out, as with standard input
    #[arg(short = 'f', long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Prompt")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Prompt with the text as it stands, without the model's chat template
    #[arg(long, help_heading = "Prompt")]
    pub(crate) raw: bool,

    /// Where to write the page; a file that is there is replaced once the new one is whole
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = "trace.html")]
    #[arg(help_heading = "Output")]
    pub(crate) out: PathBuf,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// The configuration file (TOML)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// The model: a GGUF file, a folder of safetensors, an exported folder, or hf:owner/repo or hf:owner/repo/file, with
    /// @revision if wanted [key: model.path]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<String>,
    /// The backend; see `upcycle backends` [key: backend.name]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// recycling, mixed, prompt-lookup, or none for plain decoding [key: drafter.name]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) drafter: Option<String>,
    /// The most tokens to answer with [key: decode.max_tokens]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) max_tokens: Option<String>,
    /// Any key of the configuration, such as backend.cpu.weights="f32"; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// off, error, warn, info, debug or trace, to standard error [key: log.level]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

/// One of these, or standard input.
#[derive(Args, Debug)]
#[group(multiple = false)]
#[command(next_help_heading = "Prompt")]
pub(crate) struct PromptSource {
    /// The prompt; standard input is read if no prompt is given
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// A file with the prompt; one line end at its end is left out, as with standard input
    #[arg(short = 'f', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) prompt_file: Option<PathBuf>,
    /// A file of many prompts, one JSON object a line: {"question_id": 1, "turns": ["…"]}. The first turn of each is
    /// answered, and one JSON object a line is printed, with its question_id
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) prompts: Option<PathBuf>,
}
