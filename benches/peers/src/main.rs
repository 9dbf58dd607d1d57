//! softmax-regression, and the alternatives written in Rust, as workers of `run.py` (README.md, "Protocol"):
//! `peers-worker ENGINE` reads requests from standard input and answers on standard output.

mod engine;
mod fits;
mod ours;
mod problem;

#[cfg(feature = "burn")]
mod burn;
#[cfg(feature = "candle")]
mod candle;
#[cfg(feature = "linfa")]
mod linfa;

use engine::{Engine, Prepare};
use problem::Request;
use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_default();
    if let Some(fit) = fits::fit_named(&name) {
        return fits::serve(fit);
    }
    let prepare = engine_named(&name).ok_or_else(|| format!("no engine {name:?} in this build"))?;
    let mut engine: Option<Box<dyn Engine>> = None;
    serve(|request, words| {
        Ok(match request {
            "prepare" => {
                drop(engine.take());
                engine = Some(prepare(&words.parse::<Request>()?)?);
                "ready".to_owned()
            }
            "run" => run(prepared(&mut engine)?, words.parse()?)?,
            "result" => {
                let (loss, gradient) = prepared(&mut engine)?.result()?;
                write_numbers(words, &[&[loss], &*gradient].concat())?;
                "ok".to_owned()
            }
            _ => return Err(format!("unknown request {request:?}").into()),
        })
    })
}

/// Reads requests from standard input, each a word and what follows it, and writes the answers to standard output; until
/// there are no more, or one is `quit`.
fn serve(mut answer: impl FnMut(&str, &str) -> Result<String, Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    for line in stdin().lock().lines() {
        let line = line?;
        let (request, words) = line.split_once(' ').unwrap_or((&line, ""));
        if request == "quit" {
            break;
        }
        println!("{}", answer(request, words)?);
        stdout().flush()?;
    }
    Ok(())
}

/// As little-endian `f64`.
fn write_numbers(path: &str, numbers: &[f64]) -> std::io::Result<()> {
    std::fs::write(path, numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

fn engine_named(name: &str) -> Option<Prepare> {
    match name {
        "ours" => Some(ours::prepare),
        #[cfg(feature = "linfa")]
        "linfa" => Some(linfa::prepare),
        #[cfg(feature = "burn")]
        "burn" => Some(burn::prepare),
        #[cfg(feature = "candle")]
        "candle" => Some(candle::prepare),
        _ => None,
    }
}

fn prepared(engine: &mut Option<Box<dyn Engine>>) -> Result<&mut dyn Engine, Box<dyn Error>> {
    match engine {
        Some(engine) => Ok(&mut **engine),
        None => Err("nothing is prepared".into()),
    }
}

/// The seconds of each repetition, space-separated.
fn run(engine: &mut dyn Engine, repetitions: usize) -> Result<String, Box<dyn Error>> {
    let times: Result<Vec<String>, _> = (0..repetitions)
        .map(|_| Ok::<_, Box<dyn Error>>(engine.evaluate()?.as_secs_f64().to_string()))
        .collect();
    Ok(times?.join(" "))
}
