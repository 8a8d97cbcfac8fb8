//! `ringmain dead`: dead letters in files.

use std::io::Write;
use std::process::ExitCode;

use ringmain_control::{DeadError, Filter, Letter, Replay, letters, list, prepare, replay};
use ringmain_runtime::signals;

use crate::args::{DeadCommand, LetterArgs, ReplayArgs};
use crate::{log, print_warnings, refuse};

pub(crate) fn dead(command: DeadCommand) -> ExitCode {
    let done = match command {
        DeadCommand::List(args) => chosen(&args).map(|letters| {
            print!("{}", list(&letters));
            ExitCode::SUCCESS
        }),
        DeadCommand::Show { letters, limit } => chosen(&letters).map(|letters| {
            let mut out = std::io::stdout().lock();
            for letter in letters.iter().take(limit.unwrap_or(usize::MAX)) {
                // Whoever reads may have seen enough.
                if writeln!(out, "{}", letter.line).is_err() {
                    break;
                }
            }
            ExitCode::SUCCESS
        }),
        DeadCommand::Replay(args) => return put_back(args),
    };
    done.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &DeadError) -> ExitCode {
    error.to_string().lines().for_each(|line| eprintln!("error: {line}"));
    ExitCode::FAILURE
}

fn filter(args: &LetterArgs) -> Filter {
    Filter { components: args.component.clone(), reasons: args.reason.clone() }
}

fn chosen(args: &LetterArgs) -> Result<Vec<Letter>, DeadError> {
    let filter = filter(args);
    let mut all = Vec::new();
    for path in &args.paths {
        all.extend(letters(path)?);
    }
    all.retain(|letter| filter.matches(letter));
    Ok(all)
}

fn put_back(args: ReplayArgs) -> ExitCode {
    let mut signals = match signals::watch() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("error: cannot watch for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut prepared = match prepare(&[args.flow], args.config.as_deref()) {
        Ok(prepared) => prepared,
        Err(diagnostics) => return refuse(&diagnostics),
    };
    print_warnings(&prepared);
    log::init(&prepared.plan.log);
    let filter = filter(&args.letters);
    let what = Replay { paths: args.letters.paths, at: args.at, filter, io: args.io.into() };
    match replay(&mut prepared, &what, &mut signals) {
        Ok(files) => {
            for file in &files {
                let (path, delivered) = (file.path.display(), file.replayed);
                let (refused, others) = (file.refused, file.others);
                eprintln!(
                    "{path}: {delivered} put back in, {refused} refused again, {others} not meant"
                );
            }
            match files.iter().all(|file| file.refused == 0) {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => failed(&error),
    }
}
