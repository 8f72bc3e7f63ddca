//! `dsv4 chat`: a conversation, in a terminal or line by line from a script.

use super::{ComputeArgs, Failure, GenerateArgs, Result, name_of, open_model, run, terminal, tokenizer_of};
use clap::{Args, ValueEnum};
use dsv4::Error;
use dsv4::host::{Generate, Session, Template, Think, Tokenizer};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

/// Talk with the model; a line is a message, /help shows what else there is
#[derive(Args)]
pub(super) struct ChatArgs {
    /// The model [default: the one built in]
    model: Option<PathBuf>,
    /// Let the model think before it answers
    #[arg(long, value_enum, default_value_t = ThinkArg::Off)]
    think: ThinkArg,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    system: String,
    #[command(flatten)]
    generate: GenerateArgs,
    /// Context: the whole conversation
    #[arg(short, value_name = "CTX", default_value_t = 8192)]
    context: usize,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum ThinkArg {
    Off,
    High,
    Max,
}

impl From<ThinkArg> for Think {
    fn from(arg: ThinkArg) -> Self {
        match arg {
            ThinkArg::Off => Self::Off,
            ThinkArg::High => Self::High,
            ThinkArg::Max => Self::Max,
        }
    }
}

const HELP: &str = "\
/help                  this
/new                   begin a new conversation
/think off|high|max    how much the model thinks before it answers
/quit                  leave (or Ctrl-D)
Ctrl-C                 stop an answer";

pub(super) fn chat(args: &ChatArgs) -> Result {
    let path = args.model.as_deref();
    let model = open_model(path)?;
    let tokenizer = tokenizer_of(&model, path)?;
    let template = Template::new(tokenizer).map_err(|error| Failure::about(&name_of(path), error))?;
    let context = args.context.min(model.core().config().context);
    let mut chat = Chat {
        tokenizer,
        template,
        session: Session::new(model.clone(), &args.compute.params(context)?, args.compute.pool())?,
        generate: args.generate.generate(Some(template.tokens.eos)),
        system: &args.system,
        think: args.think.into(),
        past: Vec::new(),
    };
    let mut input = Input::new()?;
    // After the line editor, which has a way of its own with Ctrl-C while it reads.
    terminal::catch_ctrl_c();
    while let Some(line) = input.next()? {
        terminal::resume();
        let line = line.trim_end_matches(['\n', '\r']);
        let mut words = line.split_whitespace();
        match words.next() {
            None => {}
            Some("/quit") => break,
            Some("/help") => say(HELP)?,
            Some("/new") => chat.past.clear(),
            Some("/think") => match words.next().and_then(|word| ThinkArg::from_str(word, false).ok()) {
                Some(think) => chat.think = think.into(),
                None => terminal::complain("/think takes off, high or max"),
            },
            Some(word) if word.starts_with('/') => terminal::complain(&format!("no such command: {word} (see /help)")),
            Some(_) => match chat.answer(line) {
                // The conversation stays as it was before.
                Err(Failure::Message(message)) if input.is_terminal() => terminal::complain(&message),
                result => result?,
            },
        }
        // Whoever interrupts a script means all of it.
        if !input.is_terminal() && !terminal::go_on() {
            return Err(Failure::Cancelled);
        }
    }
    Ok(())
}

struct Chat<'a> {
    tokenizer: &'a Tokenizer,
    template: Template,
    session: Session,
    generate: Generate,
    system: &'a str,
    think: Think,
    /// The turns so far, after what the conversation begins with.
    past: Vec<u32>,
}

impl Chat<'_> {
    /// Answers `text` on standard output. What is in the session already is not evaluated again.
    fn answer(&mut self, text: &str) -> Result {
        let mut prompt = self.template.begin(self.tokenizer, self.think, self.system)?;
        prompt.extend(&self.past);
        prompt.extend(self.template.turn(self.tokenizer, self.think, text)?);
        let context = self.session.with(|session| session.params().context);
        if prompt.len() > context {
            return Err(Error::ContextFull { context: context as u32 }.into());
        }
        let done = run::stream(&mut self.session, &mut self.generate, &prompt, &mut |piece| {
            let mut out = io::stdout().lock();
            out.write_all(piece.as_bytes())?;
            out.flush()
        })?;
        say("")?;
        self.past.extend(self.template.past(self.tokenizer, self.think, text, &done.tokens)?);
        Ok(())
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Where messages come from.
enum Input {
    Terminal(Box<DefaultEditor>),
    Script,
}

impl Input {
    fn new() -> Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Script);
        }
        let editor = DefaultEditor::new().map_err(|error| Failure::Message(format!("terminal: {error}")))?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    const fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line, until there are no more.
    fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Script => {
                let mut bytes = Vec::new();
                let read = io::stdin().lock().read_until(b'\n', &mut bytes);
                let read = read.map_err(|error| Failure::Message(format!("input: {error}")))?;
                Ok((read > 0).then(|| String::from_utf8_lossy(&bytes).into_owned()))
            }
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    // Without the history of this line, at worst.
                    let _ = editor.add_history_entry(&line);
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(error) => Err(Failure::Message(format!("terminal: {error}"))),
            },
        }
    }
}
