//! What the user sees and presses: progress, complaints, Ctrl-C.

use dsv4::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static CANCELLED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C no longer ends the process, but makes [`go_on`] say no; pressed again before [`resume`], it does.
pub(super) fn catch_ctrl_c() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler = || {
            if CANCELLED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        };
        // Without a handler Ctrl-C still ends the process.
        let _ = ctrlc::set_handler(handler);
    });
}

/// Whether nobody has pressed Ctrl-C.
pub(super) fn go_on() -> bool {
    !CANCELLED.load(Ordering::Relaxed)
}

/// Forgets that Ctrl-C was pressed.
pub(super) fn resume() {
    CANCELLED.store(false, Ordering::Relaxed);
}

/// One line on standard error, whatever `message` contains.
pub(super) fn complain(message: &str) {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let line: String = message.chars().map(escape).collect();
    // There is nobody to tell if that fails.
    let _ = writeln!(io::stderr(), "dsv4: {line}");
}

/// A bar that shows how far an evaluation is: on a terminal, and nowhere else.
pub(super) struct Bar {
    bar: ProgressBar,
    layers: u64,
}

impl Bar {
    /// A bar for evaluating `tokens` tokens with a model of `layers` layers.
    pub(super) fn new(what: &'static str, tokens: usize, layers: usize) -> Self {
        let layers = layers as u64;
        let bar = ProgressBar::new(tokens as u64 * layers).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}") {
            bar.set_style(style);
        }
        Self { bar, layers }
    }

    /// Shows `progress` of an evaluation that began after `before` tokens, in batches of `batch`.
    pub(super) fn show(&self, before: usize, batch: usize, progress: Progress) {
        let now = batch.min(progress.of - progress.tokens) as u64;
        self.bar.set_position((before + progress.tokens) as u64 * self.layers + now * progress.layer as u64);
    }

    /// Takes it away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
