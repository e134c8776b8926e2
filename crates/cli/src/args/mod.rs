//! The command line arguments.

#[cfg(feature = "bench")]
pub(crate) mod bench;

#[cfg(not(all(feature = "bench", feature = "ort", feature = "serve")))]
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

const PROMISES: &str = "\
Answers from language models in fewer steps, by Token Recycling. What holds, and where:

- The drafted text is the plain text, bit for bit, greedy and sampled: own CPU kernels.
- The same up to near-ties within a stated rounding margin: ONNX Runtime, llama.cpp, candle's tensors, GPUs.

With drafter.budget = \"auto\", drafting stops where it does not save time.";

/// Answers from language models in fewer steps, by Token Recycling
#[derive(Debug, Parser)]
#[command(name = "upcycle", version, long_about = PROMISES, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The command line. Of a flag that is given twice, the last one counts. An option takes the next argument as its value, whatever it
/// begins with: a prompt may be a list with dashes.
pub(crate) fn command() -> clap::Command {
    with_any_values(Arguments::command().args_override_self(true))
}

fn with_any_values(command: clap::Command) -> clap::Command {
    let any = |arg: clap::Arg| {
        let takes = !arg.is_positional() && arg.get_action().takes_values();
        if takes { arg.allow_hyphen_values(true) } else { arg }
    };
    command.mut_args(any).mut_subcommands(with_any_values)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer a prompt and stream the text to standard output
    Run(Box<Run>),
    /// Chat with a model
    Chat(Box<Chat>),
    /// Serve the model over HTTP, as OpenAI's API
    #[cfg(feature = "serve")]
    Serve(Box<Serve>),
    /// Serve the model over HTTP (not in this build: needs `--features serve`)
    #[cfg(not(feature = "serve"))]
    Serve(NotCompiled),
    /// Save what a drafter learns from prompts or from the model's vocabulary, for later runs to start with
    Warm(Box<Warm>),
    /// Measure drafters and backends against plain decoding and other programs
    #[cfg(feature = "bench")]
    Bench(Box<bench::Bench>),
    /// Measure drafters and backends (not in this build: needs `--features bench`)
    #[cfg(not(feature = "bench"))]
    Bench(NotCompiled),
    /// Answer a prompt and write each step and its draft tree to an HTML page
    Trace(Box<Trace>),
    /// List the backends and their devices
    Backends {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show what the headers of a model's files say, and which backends can load it
    Inspect {
        /// A GGUF file (of a split model, the first), a folder, or hf:owner/repo[/file][@revision]
        #[arg(value_hint = ValueHint::FilePath)]
        model: PathBuf,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Export a model to an ONNX graph that scores draft trees, for the backend `ort`
    #[cfg(feature = "ort")]
    Export(Export),
    /// Export a model to an ONNX graph (not in this build: needs `--features ort`)
    #[cfg(not(feature = "ort"))]
    Export(NotCompiled),
    /// Check configuration files
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
        /// The TOML file, or - for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// A command that is not compiled in. It accepts any arguments, so that the message names the missing feature.
#[cfg(not(all(feature = "bench", feature = "ort", feature = "serve")))]
#[derive(Args, Debug)]
pub(crate) struct NotCompiled {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<OsString>,
}

#[cfg(feature = "ort")]
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// A GGUF file, a folder of safetensors, or hf:owner/repo[/file][@revision]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: PathBuf,
    /// The folder to create; it must not exist
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) to: PathBuf,
    /// The data type of the weights
    #[arg(long, default_value = "f32", value_parser = ["f32", "f16", "int8", "int4"])]
    pub(crate) weights: String,
    /// Weights per scale for int8 and int4: 16, 32, 64, 128 or 256
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub(crate) block: usize,
}

const PRECEDENCE: &str = "\
Settings: flags override UPCYCLE_* environment variables (two underscores between levels: \
UPCYCLE_BACKEND__CPU__WEIGHTS=f32), which override the configuration file, which overrides defaults. Decoding is greedy \
unless a temperature is set. The seed is 0 unless set, so the same command always gives the same text.

Where a flag takes a text file, - stands for standard input or output. Of a flag that is given twice, the last one counts.

Exit codes: 0 for success; 1 for a failure, and with --compare if the texts differ; 2 for wrong usage or configuration; 130 \
after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP. These end the text after the current step; a second one ends the program at \
once.";

#[derive(Args, Debug)]
#[command(after_help = PRECEDENCE)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) prompt: PromptSource,

    /// The system prompt
    #[arg(
        long,
        visible_alias = "system-prompt",
        value_name = "TEXT",
        conflicts_with = "raw",
        help_heading = "Prompt"
    )]
    pub(crate) system: Option<String>,
    /// Use the prompt as it is, without the model's chat template
    #[arg(long, help_heading = "Prompt")]
    pub(crate) raw: bool,
    /// With --prompts: start every prompt with empty drafter tables [key: drafter.share_across_prompts=false]
    #[arg(long, requires = "prompts", conflicts_with_all = ["prompt", "prompt_file"], help_heading = "Prompt")]
    pub(crate) empty_tables: bool,

    /// Print statistics to standard error
    #[arg(long, help_heading = "Output")]
    pub(crate) stats: bool,
    /// Print a JSON object instead of the text: text, tokens (ids), prompt_tokens, finish, stats (times in seconds)
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Answer with the drafter and with plain decoding, and compare speed and text
    #[arg(long, conflicts_with_all = ["json", "prompts"], help_heading = "Output")]
    pub(crate) compare: bool,
}

const CHAT: &str = "\
In a terminal, lines can be edited and recalled; their history is saved in the user's state folder. Otherwise each line of \
standard input is a message or a command, and the first error ends the conversation.

Commands: /system, /reset, /retry, /save FILE, /load FILE, /stats, /set KEY VALUE, /help, /quit.

The KV cache is kept between turns, so only new text is read. The drafter keeps learning; drafter.snapshot is saved at the \
end, also after SIGTERM. Settings are those of `upcycle run`. Exit codes: 0 for success; 1 for a failure; 2 for wrong usage or \
configuration; 143 after SIGTERM, 129 after SIGHUP.";

#[derive(Args, Debug)]
#[command(after_help = CHAT)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) settings: Settings,

    /// The system prompt
    #[arg(long, visible_alias = "system-prompt", value_name = "TEXT", help_heading = "Conversation")]
    pub(crate) system: Option<String>,
    /// Continue a conversation that /save wrote
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Conversation")]
    pub(crate) load: Option<PathBuf>,

    /// Show accepted draft tokens in green
    #[arg(long, help_heading = "Output")]
    pub(crate) show_drafts: bool,
    /// Print statistics of each answer to standard error
    #[arg(long, help_heading = "Output")]
    pub(crate) stats: bool,
}

#[cfg(feature = "serve")]
const SERVE: &str = "\
POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages, /tokenize and /detokenize; GET /v1/models, /health, \
/ready, /metrics and /openapi.json; a page to chat at /. The answers are those of the same requests alone, whoever else is served.

The server listens before the model is loaded; /health answers 503 until then. SIGTERM or Ctrl-C ends it after the running \
requests, and a second one at once. [server] and [engine] of the configuration hold its settings; the others are those of \
`upcycle run`. What a request does not say about sampling comes from [decode], then from the model's generation config; the \
temperature is 1 if neither names one.";

#[cfg(feature = "serve")]
#[derive(Args, Debug)]
#[command(after_help = SERVE)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) settings: Settings,

    /// The address to listen on: 127.0.0.1 for this machine alone, 0.0.0.0 for all [key: server.host]
    #[arg(long, value_name = "ADDRESS", help_heading = "Server")]
    pub(crate) host: Option<String>,
    /// The port; 0 takes a free one [key: server.port]
    #[arg(long, value_name = "PORT", help_heading = "Server")]
    pub(crate) port: Option<String>,
    /// The name of the model in requests and answers [key: server.model_name]
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub(crate) model_name: Option<String>,
    /// A key that requests must send; may be repeated. Other users of this machine can see it: prefer a file
    #[arg(long, value_name = "KEY", help_heading = "Server")]
    pub(crate) api_key: Vec<String>,
    /// A file of such keys, one a line [key: server.api_key_file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Server")]
    pub(crate) api_key_file: Option<String>,
}

const WARM: &str = "\
A run whose drafter.snapshot names the file starts with what was learned. An existing snapshot is extended. The rows of \
prompts are learned too, whatever drafter.prompt_rows says, except with the paper's preset.

--vocabulary scores one row for each token without a row. It takes as long as reading a prompt of that many tokens, and is \
needed once per model. With --prompts, it runs first.

Settings and exit codes are those of `upcycle run`. Ctrl-C ends the answer after the current step and saves what was \
learned so far.";

#[derive(Args, Debug)]
#[command(after_help = WARM, group(ArgGroup::new("from").required(true).multiple(true).args(["prompts", "vocabulary"])))]
pub(crate) struct Warm {
    #[command(flatten)]
    pub(crate) settings: Settings,

    /// A JSONL file of prompts: {"question_id": 1, "turns": ["…"]} on each line. The first turn of each is answered
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Prompt")]
    pub(crate) prompts: Option<PathBuf>,
    /// Learn what the model predicts after each single token of its vocabulary
    #[arg(long, help_heading = "Prompt")]
    pub(crate) vocabulary: bool,
    /// Use the prompt as it is, without the model's chat template
    #[arg(long, help_heading = "Prompt")]
    pub(crate) raw: bool,

    /// The snapshot to write, or - for standard output [key: drafter.snapshot]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output")]
    pub(crate) out: String,
}

const TRACE: &str = "\
The page needs no network. For every step it shows the draft tree, the accepted nodes, the model's ranking after each node, \
and what the drafter learned. drafter.snapshot is read, but not written.

Settings and exit codes are those of `upcycle run`. Ctrl-C ends the text after the current step; the page shows the steps so \
far.";

#[derive(Args, Debug)]
#[command(after_help = TRACE)]
pub(crate) struct Trace {
    #[command(flatten)]
    pub(crate) settings: Settings,

    /// The prompt; read from standard input if none is given
    #[arg(short, long, value_name = "TEXT", conflicts_with = "prompt_file", help_heading = "Prompt")]
    pub(crate) prompt: Option<String>,
    /// A file with the prompt, or -; one line break at its end is dropped, as with standard input
    #[arg(short = 'f', long, visible_alias = "file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(help_heading = "Prompt")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Use the prompt as it is, without the model's chat template
    #[arg(long, help_heading = "Prompt")]
    pub(crate) raw: bool,

    /// The page to write, or - for standard output; an existing file is replaced when the new one is complete
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = "trace.html")]
    #[arg(help_heading = "Output")]
    pub(crate) out: PathBuf,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// The configuration file (TOML), or - for standard input
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// The model: a GGUF file, a folder of safetensors, an exported folder, or hf:owner/repo[/file][@revision] [key:
    /// model.path]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<String>,
    /// The backend; see `upcycle backends` [key: backend.name]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// recycling, mixed, prompt-lookup, or none for plain decoding [key: drafter.name]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) drafter: Option<String>,
    /// The most tokens to answer with [key: decode.max_tokens]
    #[arg(short = 'n', long, visible_alias = "n-predict", value_name = "N")]
    pub(crate) max_tokens: Option<String>,
    /// 0 for greedy decoding, or 0.001 to 100 [key: decode.temperature]
    #[arg(long, visible_alias = "temp", value_name = "T")]
    pub(crate) temperature: Option<String>,
    /// Choose only among this many of the most probable tokens; 0 turns it off [key: decode.top_k]
    #[arg(long, value_name = "N")]
    pub(crate) top_k: Option<String>,
    /// Choose among the most probable tokens whose probabilities sum to this; 1 turns it off [key: decode.top_p]
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<String>,
    /// Choose among tokens with at least this share of the highest probability; 0 turns it off [key: decode.min_p]
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<String>,
    /// The seed of sampling [key: decode.seed]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<String>,
    /// A string that ends the text; may be repeated [key: decode.stop]
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// The longest context of llama-cpp; other backends use the model's, and their caches grow with the text
    /// [key: backend.llama-cpp.n_ctx]
    #[arg(long, value_name = "N")]
    pub(crate) ctx_size: Option<String>,
    /// With the backend ort, load the model in a child process first, so that a damaged graph cannot end this one
    /// [key: backend.ort.isolate]
    #[arg(long)]
    pub(crate) isolate: bool,
    /// Set any key of the configuration, such as backend.cpu.weights="f32"; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Log level for standard error: off, error, warn, info, debug or trace [key: log.level]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

/// At most one of these; otherwise standard input is read.
#[derive(Args, Debug)]
#[group(multiple = false)]
#[command(next_help_heading = "Prompt")]
pub(crate) struct PromptSource {
    /// The prompt; read from standard input if none is given
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// A file with the prompt, or -; one line break at its end is dropped, as with standard input
    #[arg(short = 'f', long, visible_alias = "file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) prompt_file: Option<PathBuf>,
    /// A JSONL file of prompts: {"question_id": 1, "turns": ["…"]} on each line. The first turn of each is answered, and
    /// a JSON object with its question_id is printed on one line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) prompts: Option<PathBuf>,
}
