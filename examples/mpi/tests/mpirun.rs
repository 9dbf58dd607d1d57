//! The program under the real `mpirun`, on 1, 2 and 3 ranks of this machine.

use argmin::core::Executor;
use argmin::solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS};
use faer::{Mat, MatRef};
use softmax_regression::{Batch, Objective, Reduction, Workspace, solver};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_softmax-regression-mpi");
const ROWS: usize = 65;
const CLASSES: usize = 10;
/// The program's own: where its L-BFGS stops.
const TOLERANCE: f64 = 1e-8;
/// No job takes so long that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a job.
struct Outcome {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// The word of standard output after this text.
    fn after(&self, text: &str) -> &str {
        let rest = self.stdout.split_once(text).unwrap_or_else(|| panic!("no {text:?} in {}", self.stdout)).1;
        rest.split_whitespace().next().unwrap()
    }

    /// The word of standard output before this text.
    fn before(&self, text: &str) -> &str {
        let rest = self.stdout.split_once(text).unwrap_or_else(|| panic!("no {text:?} in {}", self.stdout)).0;
        rest.split_whitespace().last().unwrap()
    }

    #[track_caller]
    fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        self
    }

    /// It ended with an error, and standard error says this.
    #[track_caller]
    fn failed(&self, message: &str) {
        assert!(!self.status.success(), "a success: {}", self.stdout);
        assert!(self.stderr.contains(message), "no {message:?} in {}", self.stderr);
    }
}

/// A file of a test's own.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// What `mpirun` makes of these arguments. It may use more ranks than cores, as root too, where tests run as that, and
/// nothing of the network.
///
/// # Panics
/// If it takes longer than [`PATIENCE`].
#[track_caller]
fn mpirun(name: &str, arguments: &[&str]) -> Outcome {
    // Ranks wait busily: two jobs at a time would keep each other from the cores.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (out, err) = (file(&format!("{name}.out")), file(&format!("{name}.err")));
    let mut job = Command::new("mpirun")
        .args(["--allow-run-as-root", "--oversubscribe", "--mca", "btl", "self,vader"])
        .args(arguments)
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .expect("mpirun: is openmpi-bin installed?");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = job.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            // mpirun ends its ranks when it is told to end, not when it is killed.
            Command::new("kill").arg(job.id().to_string()).status().unwrap();
            sleep(Duration::from_secs(5));
            job.kill().unwrap();
            job.wait().unwrap();
            panic!("still running after {PATIENCE:?}: {}", fs::read_to_string(err).unwrap());
        }
        sleep(Duration::from_millis(20));
    };
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Outcome { status, stdout: read(out), stderr: read(err) }
}

/// What becomes of a job of so many ranks, at one of which this goes wrong.
#[track_caller]
fn faulty(fault: &str, ranks: i32, rank: i32) -> Outcome {
    mpirun(fault, &["-n", &ranks.to_string(), PROGRAM, &format!("--{fault}"), &rank.to_string()])
}

/// The images and their labels, read here once more: that the program leaves none out is not to be believed.
fn digits() -> (Mat<f64>, Vec<u32>) {
    let csv = include_str!("../../../data/digits.csv");
    let rows: Vec<Vec<u32>> =
        csv.lines().map(|line| line.split(',').map(|number| number.parse().unwrap()).collect()).collect();
    assert_eq!(rows.len(), 1797);
    let x = Mat::from_fn(rows.len(), ROWS - 1, |i, j| f64::from(rows[i][j]) / 16.0);
    (x, rows.iter().map(|row| row[ROWS - 1]).collect())
}

fn objective() -> Objective {
    Objective::default().reduction(Reduction::Mean).intercept(true).l2(1e-3)
}

/// The least J, by the same solver without MPI.
fn minimum() -> f64 {
    let (x, labels) = digits();
    let problem = solver::Problem::new(objective(), Batch::new(&x, &labels).unwrap(), CLASSES);
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10)
        .with_tolerance_grad(TOLERANCE)
        .unwrap()
        .with_tolerance_cost(0.0)
        .unwrap();
    let start = vec![0.0; ROWS * CLASSES];
    let outcome =
        Executor::new(problem, solver).configure(|state| state.param(start).max_iters(1000)).run().unwrap();
    outcome.state.get_best_cost()
}

/// J is convex and its curvature at least λ = 1e-3, but for a shift of all intercepts, which changes nothing: so with
/// ‖∇J‖ ≤ 1e-8, J is within ‖∇J‖²/2λ = 5e-14 of the least, 2e-13 relatively.
#[test]
fn optimum_is_that_of_one_process() {
    let (minimum, (x, labels)) = (minimum(), digits());
    let batch = Batch::new(&x, &labels).unwrap();
    for ranks in ["1", "2", "3"] {
        let path = file(&format!("theta-{ranks}"));
        let outcome = mpirun("optimum", &["-n", ranks, PROGRAM, "--out", path.to_str().unwrap()]).succeeded();
        let found: f64 = outcome.after("J = ").parse().unwrap();
        assert!((found / minimum - 1.0).abs() <= 1e-12, "{ranks} ranks: {found} instead of {minimum}");
        assert_eq!(
            outcome.before(" of them on rank 0"),
            (1797 / ranks.parse::<usize>().unwrap()).to_string()
        );

        // What it says of its Θ is so for all images: J to the 15 digits printed, and the gradient.
        let bytes = fs::read(&path).unwrap();
        let (numbers, _) = bytes.as_chunks();
        let theta: Vec<f64> = numbers.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
        let theta = MatRef::from_column_major_slice(&theta, ROWS, CLASSES);
        let mut gradient = Mat::zeros(ROWS, CLASSES);
        let loss =
            objective().loss_and_gradient(&batch, theta, gradient.as_mut(), &mut Workspace::new()).unwrap();
        assert!((found / loss - 1.0).abs() <= 1e-14, "{ranks} ranks: {found} instead of {loss}");
        assert!(gradient.norm_l2() <= 1.01 * TOLERANCE, "{ranks} ranks: {}", gradient.norm_l2());
    }
}

/// Counted by Open MPI: beside the evaluations' there are the two allreduces that compare the shapes (two numbers of 8
/// bytes) and the one that compares Θ (one of 4).
#[test]
fn an_evaluation_is_one_allreduce() {
    let path = file("monitoring");
    let monitoring = ["enable", "enable_output", "filename"].map(|name| format!("pml_monitoring_{name}"));
    let mut arguments = vec!["-n", "3"];
    for (name, value) in monitoring.iter().zip(["2", "3", path.to_str().unwrap()]) {
        arguments.extend(["--mca", name, value]);
    }
    arguments.push(PROGRAM);
    let outcome = mpirun("allreduce", &arguments).succeeded();
    let evaluations: usize = outcome.before(" evaluations").parse().unwrap();
    let numbers: usize = outcome.before(" numbers sent").parse().unwrap();
    assert_eq!(numbers, ROWS * CLASSES + 2);
    for rank in 0..3 {
        let profile = fs::read_to_string(file(&format!("monitoring.{rank}.prof"))).unwrap();
        // Bytes are counted once for each of the two others.
        let bytes = 2 * (evaluations * 8 * numbers + 2 * 16 + 4);
        let expected = format!("A2A\t{rank}\t{bytes} bytes\t{} msgs sent", evaluations + 3);
        assert!(profile.contains(&expected), "no {expected:?} in {profile}");
    }
}

#[test]
fn an_error_ends_the_job() {
    for (ranks, rank) in [(1, 0), (2, 1), (3, 0), (3, 2)] {
        let outcome = faulty("fail", ranks, rank);
        outcome.failed(&format!("rank {rank} of {ranks} failed: told to fail\n"));
        assert_eq!(outcome.status.code(), Some(1));
    }
}

#[test]
fn a_panic_ends_the_job() {
    for (ranks, rank) in [(1, 0), (2, 1), (3, 0), (3, 2)] {
        let outcome = faulty("panic", ranks, rank);
        outcome.failed(&format!("rank {rank} of {ranks} panicked: told to panic\n"));
        assert_eq!(outcome.status.code(), Some(1));
    }
}

/// The message is that of `mpirun`.
#[test]
fn a_death_ends_the_job() {
    for (ranks, rank) in [(1, 0), (2, 1), (3, 0), (3, 2)] {
        let outcome = faulty("die", ranks, rank);
        outcome.failed(&format!("process rank {rank} "));
        outcome.failed("exited on signal 6");
    }
}

/// Even with status 0, without a word to MPI. The message is that of `mpirun`.
#[test]
fn a_departure_ends_the_job() {
    for (ranks, rank) in [(2, 1), (3, 0), (3, 2)] {
        let outcome = faulty("leave", ranks, rank);
        outcome.failed(&format!("process rank {rank} "));
    }
}

/// The check of Θ at the end sees one bit, and all ranks are told.
#[test]
fn drift_is_an_error() {
    for (ranks, rank) in [(2, 1), (3, 1), (3, 2)] {
        let outcome = faulty("drift", ranks, rank);
        outcome.failed(&format!("numbers on rank {rank} differ from those on rank 0"));
        assert!(!outcome.stdout.contains("same bits"), "{}", outcome.stdout);
    }
}

/// One with 4 features beside one with 5, of 3 classes.
#[test]
fn other_shapes_are_an_error() {
    let (four, five) =
        (["-n", "1", PROGRAM, "--bench", "10", "4", "3"], [PROGRAM, "--bench", "10", "5", "3"]);
    let outcome = mpirun("shapes", &[&four[..], &[":", "-n", "1"], &five].concat());
    outcome.failed("ranks disagree on the shape of Θ: from 4×3 to 5×3");
}

/// Two samples on three ranks.
#[test]
fn a_rank_may_have_no_samples() {
    let outcome = mpirun("empty", &["-n", "3", PROGRAM, "--bench", "2", "4", "3"]).succeeded();
    assert_eq!(outcome.before(" numbers sent"), "14");
}
