//! The command line: the original's single-dash flags, and ours.
//!
//! Go takes `-config x`, `--config x`, `-config=x`, `-dev` and `-dev=false`. The arguments are rewritten to what clap
//! takes and left to it: help, errors and sub-commands are clap's.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand};

/// Flags that stand alone in Go, or have `=true` or `=false` behind them.
const SWITCHES: &[&str] = &["logdate", "version", "dev", "cleanup-checkpoints", "gops", "as-original"];
/// Flags that have a value, behind `=` or as the next argument.
const VALUES: &[&str] = &["config", "loglevel", "auto-frequency"];

/// Keeps the metrics of HPC clusters: takes samples, answers queries, survives restarts.
#[derive(Debug, Parser)]
#[command(
    name = "store-server",
    disable_version_flag = true,
    args_conflicts_with_subcommands = false,
    args_override_self = true
)]
pub struct Args {
    /// Config file; without it ./config.json if that exists, else an embedded default.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Least important messages that are logged: debug, info, warn, err or crit.
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub loglevel: Level,
    /// Put date and time in front of messages.
    #[arg(long)]
    pub logdate: bool,
    /// Print the version and exit.
    #[arg(long)]
    pub version: bool,
    /// Serve a page at /docs that describes the API.
    #[arg(long)]
    pub dev: bool,
    /// Remove checkpoint files older than the retention, once, and exit.
    #[arg(long)]
    pub cleanup_checkpoints: bool,
    /// Accepted, without effect: a debugger of Go programs.
    #[arg(long)]
    pub gops: bool,
    /// Without a config file: seconds per step of metrics that are registered because they are sent; 10 if not given.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub auto_frequency: Option<u32>,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at the config.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        action: ConfigAction,
    },
}

/// What to do with the config.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Read the config as a start would, and say what is wrong with it.
    Check {
        /// Also list the keys that the original refuses.
        #[arg(long)]
        as_original: bool,
    },
}

/// Importance of a message, by the original's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What should be looked at.
    Warn,
    /// What went wrong.
    Err,
    /// Only why the server does not start or ends.
    Crit,
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Err => "err",
            Self::Crit => "crit",
        }
    }
}

/// A level as it was given. One that is not known is no reason not to start: it is `debug`, as for the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// What it means.
    pub level: LogLevel,
    /// What is to be said about it, if it was not written as it should be.
    pub warning: Option<String>,
}

impl FromStr for Level {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let known = match text.to_ascii_lowercase().as_str() {
            "debug" => Some(LogLevel::Debug),
            "info" => Some(LogLevel::Info),
            "warn" | "warning" => Some(LogLevel::Warn),
            "err" | "error" | "fatal" => Some(LogLevel::Err),
            "crit" => Some(LogLevel::Crit),
            _ => None,
        };
        let level = known.unwrap_or(LogLevel::Debug);
        let is_plain = known.is_some() && !text.contains(|letter: char| letter.is_ascii_uppercase());
        let warning = (!is_plain).then(|| format!("-loglevel {text}: taken for {}", level.name()));
        Ok(Self { level, warning })
    }
}

/// Parses the arguments of the process; the first is its name.
///
/// # Errors
/// They make no sense, or ask for help: clap's error prints itself.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    Args::try_parse_from(normalise(args))
}

/// Rewrites flags as Go writes them to flags as clap reads them.
fn normalise(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.push(arg);
            out.extend(args);
            break;
        }
        let Some((name, value)) = split_flag(&arg) else {
            out.push(arg);
            continue;
        };
        match value {
            _ if name == "h" => out.push("--help".into()),
            None if VALUES.contains(&name) => match args.next() {
                Some(value) => out.push(joined(name, &value)),
                None => out.push(format!("--{name}").into()),
            },
            Some(value) if SWITCHES.contains(&name) => match value.to_str().and_then(go_bool) {
                Some(true) => out.push(format!("--{name}").into()),
                Some(false) => {}
                None => out.push(joined(name, value)),
            },
            Some(value) => out.push(joined(name, value)),
            None => out.push(format!("--{name}").into()),
        }
    }
    out
}

fn joined(name: &str, value: &OsStr) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}

/// Name and value of `-name`, `--name`, `-name=value`; `None` for what is no flag.
fn split_flag(arg: &OsStr) -> Option<(&str, Option<&OsStr>)> {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = arg.as_bytes();
    let flag = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    let (name, value) = match flag.iter().position(|byte| *byte == b'=') {
        Some(at) => (&flag[..at], Some(OsStr::from_bytes(&flag[at + 1..]))),
        None => (flag, None),
    };
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    Some((name, value))
}

/// What Go takes for a truth value.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn args(line: &str) -> Result<Args, clap::Error> {
        parse(std::iter::once("store-server").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn flags_are_taken_as_go_takes_them() {
        for line in
            ["-config /etc/x.json", "--config /etc/x.json", "-config=/etc/x.json", "--config=/etc/x.json"]
        {
            assert_eq!(args(line).unwrap().config.as_deref(), Some(Path::new("/etc/x.json")), "{line}");
        }
        let all = args("-loglevel=debug -logdate -dev=true -cleanup-checkpoints -gops --version").unwrap();
        assert_eq!(all.loglevel.level, LogLevel::Debug);
        assert!(all.logdate && all.dev && all.cleanup_checkpoints && all.gops && all.version);
        let none = args("-dev=false -logdate=0").unwrap();
        assert!(!none.dev && !none.logdate && !none.version && none.config.is_none());
        assert_eq!(none.auto_frequency, None);
        assert_eq!(args("-auto-frequency 60").unwrap().auto_frequency, Some(60));
    }

    #[test]
    fn a_value_that_looks_like_a_flag_is_a_value() {
        assert_eq!(args("-config -dev").unwrap().config.as_deref(), Some(Path::new("-dev")));
    }

    #[test]
    fn every_level_of_the_original_is_known() {
        let levels = [
            ("debug", LogLevel::Debug),
            ("info", LogLevel::Info),
            ("warn", LogLevel::Warn),
            ("err", LogLevel::Err),
            ("crit", LogLevel::Crit),
        ];
        for (text, level) in levels {
            let expected = Level { level, warning: None };
            assert_eq!(args(&format!("-loglevel {text}")).unwrap().loglevel, expected);
        }
    }

    #[test]
    fn a_level_that_is_written_otherwise_is_taken_with_a_warning() {
        for (text, level, said) in [
            ("WARN", LogLevel::Warn, "warn"),
            ("Err", LogLevel::Err, "err"),
            ("loud", LogLevel::Debug, "debug"),
        ] {
            let warning = Some(format!("-loglevel {text}: taken for {said}"));
            assert_eq!(args(&format!("-loglevel {text}")).unwrap().loglevel, Level { level, warning });
        }
        for (text, level) in [("warning", LogLevel::Warn), ("error", LogLevel::Err), ("fatal", LogLevel::Err)]
        {
            let expected = Level { level, warning: None };
            assert_eq!(args(&format!("-loglevel={text}")).unwrap().loglevel, expected);
        }
    }

    #[test]
    fn of_a_flag_that_stands_twice_the_last_counts() {
        let twice = args("-config a.json -dev -config=b.json -loglevel err -loglevel info -dev").unwrap();
        assert_eq!(twice.config.as_deref(), Some(Path::new("b.json")));
        assert_eq!((twice.loglevel.level, twice.dev), (LogLevel::Info, true));
    }

    #[test]
    fn config_check_may_stand_behind_the_flags() {
        let checked = args("-config a.json config check --as-original").unwrap();
        assert_eq!(checked.config.as_deref(), Some(Path::new("a.json")));
        assert!(matches!(
            checked.command,
            Some(Command::Config { action: ConfigAction::Check { as_original: true } })
        ));
        assert!(matches!(
            args("config check").unwrap().command,
            Some(Command::Config { action: ConfigAction::Check { as_original: false } })
        ));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (line, named) in [
            ("-nope", "--nope"),
            ("-config", "--config"),
            ("-dev=maybe", "--dev"),
            ("-auto-frequency 0", "--auto-frequency"),
            ("serve", "serve"),
        ] {
            let message = args(line).unwrap_err().to_string();
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
