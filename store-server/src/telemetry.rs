//! The log on stderr, one line per message, in the form that journald and the original's users know:
//! `<4>[WARNING]  text key=value`.
//!
//! The number in front is the syslog level; journald takes it off. With `-logdate` the time (UTC) stands behind the
//! level.

use std::fmt;
use std::io::Write as _;

use store_disk::{Clock as _, SystemClock};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::LogLevel;

/// Sends messages of this level and above to stderr, from now on and for the whole process; a second call does nothing.
pub fn init(level: LogLevel, with_date: bool) {
    let filter = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Err => LevelFilter::ERROR,
        LogLevel::Crit => LevelFilter::OFF,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(filter)
        .event_format(Lines { with_date })
        .finish();
    // Only tests start twice in one process.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Says on stderr, whatever the level, why the server does not start or ends.
pub fn critical(message: &dyn fmt::Display) {
    let message = message.to_string().replace(['\n', '\r'], " ");
    // Nobody is left to tell if stderr is gone.
    drop(writeln!(std::io::stderr(), "<2>[CRITICAL] {message}"));
}

/// Logs panics as errors, one line each, instead of printing them as they come.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        tracing::error!("{text}");
    }));
}

struct Lines {
    with_date: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(prefix(*event.metadata().level()))?;
        if self.with_date {
            write!(writer, "{} ", Utc(SystemClock.now_s()))?;
        }
        // Names and bodies from outside end up in messages; a line break in them must not look like a message.
        let mut fields = String::new();
        context.field_format().format_fields(Writer::new(&mut fields), event)?;
        if fields.contains(['\n', '\r']) {
            fields = fields.replace(['\n', '\r'], " ");
        }
        writeln!(writer, "{fields}")
    }
}

fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>[ERROR]    ",
        Level::WARN => "<4>[WARNING]  ",
        Level::INFO => "<6>[INFO]     ",
        _ => "<7>[DEBUG]    ",
    }
}

/// Seconds since the epoch as `2026-11-22T05:41:00Z`.
struct Utc(i64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // Years are counted from March, so that the leap day is the last one of its year; an era has 400 of them.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(with_date: bool, message: impl Fn()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_max_level(LevelFilter::DEBUG)
            .event_format(Lines { with_date })
            .finish();
        tracing::subscriber::with_default(subscriber, message);
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_message_has_the_syslog_level_in_front() {
        assert_eq!(logged(false, || tracing::warn!(host = "h1", "late")), "<4>[WARNING]  late host=\"h1\"\n");
        assert_eq!(logged(false, || tracing::error!("gone")), "<3>[ERROR]    gone\n");
        assert_eq!(logged(false, || tracing::info!("up")), "<6>[INFO]     up\n");
        assert_eq!(logged(false, || tracing::debug!("x")), "<7>[DEBUG]    x\n");
    }

    #[test]
    fn a_line_break_from_outside_does_not_make_a_second_line() {
        let text = logged(false, || tracing::warn!("{}", "a\n<3>[ERROR]    forged"));
        assert_eq!(text.matches('\n').count(), 1, "{text}");
    }

    #[test]
    fn the_date_stands_behind_the_level() {
        let text = logged(true, || tracing::info!("up"));
        let date = text.strip_prefix("<6>[INFO]     ").and_then(|rest| rest.strip_suffix(" up\n")).unwrap();
        assert_eq!((date.len(), date.as_bytes()[10]), ("2026-11-22T05:41:00Z".len(), b'T'), "{text}");
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Utc(seconds).to_string(), text);
        }
    }
}
