//! Finds where commands and replies begin and end in a stream, however it is cut into reads.
//!
//! Nothing is kept of a long string but its remaining length, so that the proxy costs little beside copying.

/// Bytes that are kept of one argument.
const ARG_BYTES_MAX: usize = 64 * 1024;

/// A type byte, a number, CR LF; for lines of text the text itself is the rest of the line.
#[derive(Default)]
struct Header {
    line: Vec<u8>,
}

impl Header {
    /// Takes bytes up to the end of the line. Returns how many, and the line without CR LF if it is complete.
    fn take(&mut self, input: &[u8]) -> (usize, Option<Vec<u8>>) {
        match input.iter().position(|&byte| byte == b'\n') {
            None => {
                self.line.extend_from_slice(input);
                (input.len(), None)
            }
            Some(end) => {
                self.line.extend_from_slice(&input[..=end]);
                let mut line = std::mem::take(&mut self.line);
                line.truncate(line.len().saturating_sub(2));
                (end + 1, Some(line))
            }
        }
    }
}

/// The number after a type byte; -1 for the nils.
fn number(line: &[u8]) -> i64 {
    std::str::from_utf8(&line[1..])
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("not a RESP header: {}", line.escape_ascii()))
}

/// What became of the bytes that a parser was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// They belong to the current frame, and it goes on.
    Inside,
    /// Of a command: its name and first argument (if it has one) are known from here on. Comes once a command.
    Known,
    /// The frame ends with them.
    End,
}

/// Cuts a stream of requests into commands.
#[derive(Default)]
pub(super) struct CommandParser {
    header: Header,
    args_left: u64,
    bytes_left: usize,
    known: bool,
    args: Vec<Vec<u8>>,
}

impl CommandParser {
    /// Takes a part of `input`, at least one byte, never more than one command.
    pub fn step(&mut self, input: &[u8]) -> (usize, Step) {
        if self.bytes_left > 0 {
            let taken = self.take_arg(input);
            return (taken, self.after_arg());
        }
        let (taken, line) = self.header.take(input);
        let Some(line) = line else {
            return (taken, Step::Inside);
        };
        match line.first() {
            Some(b'*') => {
                self.args_left = number(&line).unsigned_abs();
                self.args.clear();
                self.known = false;
            }
            Some(b'$') => {
                self.bytes_left = usize::try_from(number(&line)).expect("a length") + 2;
                self.args.push(Vec::new());
            }
            _ => panic!(
                "a request must be an array of strings, this is {}",
                line.escape_ascii()
            ),
        }
        (taken, Step::Inside)
    }

    fn take_arg(&mut self, input: &[u8]) -> usize {
        let taken = self.bytes_left.min(input.len());
        // Without the CR LF at the end.
        let content = (self.bytes_left.saturating_sub(2)).min(taken);
        let arg = self.args.last_mut().expect("begun by its header");
        let room = ARG_BYTES_MAX.saturating_sub(arg.len());
        arg.extend_from_slice(&input[..content.min(room)]);
        self.bytes_left -= taken;
        taken
    }

    fn after_arg(&mut self) -> Step {
        if self.bytes_left > 0 {
            return Step::Inside;
        }
        self.args_left -= 1;
        if !self.known && (self.args_left == 0 || self.args.len() == 2) {
            self.known = true;
            return Step::Known;
        }
        if self.args_left == 0 {
            Step::End
        } else {
            Step::Inside
        }
    }

    /// Whether the command that was [`Step::Known`] just now ends there too.
    pub fn at_end(&self) -> bool {
        self.args_left == 0 && self.bytes_left == 0
    }

    /// Name in upper case.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.args[0]).to_uppercase()
    }

    /// The first argument, from [`Step::Known`] on.
    pub fn first_arg(&self) -> Option<&[u8]> {
        self.args.get(1).map(Vec::as_slice)
    }

    /// All arguments without the name, at the end of the command.
    pub fn take_args(&mut self) -> Vec<Vec<u8>> {
        self.args.drain(..).skip(1).collect()
    }
}

/// Cuts a stream of replies into whole replies.
#[derive(Default)]
pub(super) struct ReplyParser {
    header: Header,
    /// Replies still to come in each open array, outermost first.
    open: Vec<u64>,
    bytes_left: usize,
    content_begun: bool,
}

impl ReplyParser {
    /// Takes a part of `input`, at least one byte, never more than one reply. The flag says whether the bytes are content
    /// of the reply's first string.
    pub fn step(&mut self, input: &[u8]) -> (usize, Step, bool) {
        if self.bytes_left > 2 {
            let taken = (self.bytes_left - 2).min(input.len());
            self.bytes_left -= taken;
            return (taken, Step::Inside, !self.content_begun);
        }
        if self.bytes_left > 0 {
            let taken = self.bytes_left.min(input.len());
            self.bytes_left -= taken;
            let step = if self.bytes_left == 0 {
                self.after_element()
            } else {
                Step::Inside
            };
            return (taken, step, false);
        }
        let (taken, line) = self.header.take(input);
        let Some(line) = line else {
            return (taken, Step::Inside, false);
        };
        let step = match line.first() {
            Some(b'$') if number(&line) >= 0 => {
                self.bytes_left = usize::try_from(number(&line)).expect("a length") + 2;
                Step::Inside
            }
            Some(b'*') if number(&line) > 0 => {
                self.open.push(number(&line).unsigned_abs());
                Step::Inside
            }
            _ => self.after_element(),
        };
        (taken, step, false)
    }

    fn after_element(&mut self) -> Step {
        self.content_begun = true;
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return Step::Inside;
            }
            self.open.pop();
        }
        self.content_begun = false;
        Step::End
    }
}
