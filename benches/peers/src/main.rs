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
    for line in stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("prepare", words) => {
                drop(engine.take());
                engine = Some(prepare(&words.parse::<Request>()?)?);
                "ready".to_owned()
            }
            ("run", repetitions) => run(prepared(&mut engine)?, repetitions.parse()?)?,
            ("result", path) => {
                let (loss, gradient) = prepared(&mut engine)?.result()?;
                let bytes: Vec<u8> =
                    [&[loss], &*gradient].concat().iter().flat_map(|v| v.to_le_bytes()).collect();
                std::fs::write(path, bytes)?;
                "ok".to_owned()
            }
            ("quit", _) => break,
            _ => return Err(format!("unknown request {line:?}").into()),
        };
        println!("{answer}");
        stdout().flush()?;
    }
    Ok(())
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
