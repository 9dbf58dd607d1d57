//! Promise: behind linfa's traits, the estimator finds what linfa-logistic does, and more exactly.

use linfa::prelude::*;
use linfa_logistic::MultiLogisticRegression;
use ndarray_0_16::{Array1, Array2};
use softmax_regression::estimator::Estimator;
use softmax_regression::{FitError, Stop};

/// 150 samples of three classes that overlap.
fn samples() -> (Array2<f64>, Array1<&'static str>) {
    let names = ["setosa", "versicolor", "virginica"];
    let noise = |i: usize, j: usize| ((i * 37 + j * 101) % 64) as f64 / 16.0 - 2.0;
    let x = Array2::from_shape_fn((150, 4), |(i, j)| noise(i, j) + f64::from(u8::from(i % 3 == j)));
    (x, Array1::from_shape_fn(150, |i| names[i % 3]))
}

#[test]
fn optimum_of_linfa_logistic() {
    let (x, labels) = samples();
    let data = Dataset::new(x.clone(), labels);
    let ours = Estimator::default().fit(&data).unwrap();
    assert_eq!(ours.model().report().stop, Stop::Converged);
    assert_eq!(ours.classes(), ["setosa", "versicolor", "virginica"]);
    let theirs = MultiLogisticRegression::default()
        .alpha(1.0)
        .gradient_tolerance(1e-7)
        .max_iterations(2000)
        .fit(&data)
        .unwrap();

    let found = ours.probabilities(&x).unwrap();
    let expected = theirs.predict_probabilities(&x);
    let largest = (&found - &expected).iter().fold(0.0_f64, |largest, d| largest.max(d.abs()));
    println!("largest difference of a probability: {largest:.1e}");
    assert!(largest < 1e-4, "{largest}");
    assert_eq!(ours.predict(&data), theirs.predict(&data));
    let accuracy = ours.predict(&data).confusion_matrix(&data).unwrap().accuracy();
    assert!((0.5..1.0).contains(&accuracy), "{accuracy}");
}

/// Rows, columns, and neither contiguous; weights; a start.
#[test]
fn datasets() {
    let (x, labels) = samples();
    let model = Estimator::default().fit(&Dataset::new(x.clone(), labels.clone())).unwrap();
    let same = |theta: &faer::Mat<f64>| {
        let difference = theta - model.model().theta();
        assert!(difference.norm_max() < 1e-6, "{difference:?}");
    };
    let columns = x.t().as_standard_layout().into_owned().reversed_axes();
    assert!(columns.is_standard_layout() != x.is_standard_layout());
    let wide = Array2::from_shape_fn((150, 8), |(i, j)| if j % 2 == 0 { x[(i, j / 2)] } else { f64::NAN });
    let (mut gaps, every_second) = (wide.view(), ndarray_0_16::Slice::new(0, None, 2));
    gaps.slice_axis_inplace(ndarray_0_16::Axis(1), every_second);
    for records in [columns.view(), gaps] {
        let data = DatasetBase::new(records, labels.clone());
        let again = Estimator::default().fit(&data).unwrap();
        same(&again.model().theta().to_owned());
        assert_eq!(again.predict(&data), model.predict(&x));
    }
    let start = Estimator::default().tolerance(1e-7).warm_start(model.model().theta());
    let again = start.fit(&Dataset::new(x.clone(), labels.clone())).unwrap();
    assert_eq!(again.model().report().step.iterations, 0);

    // The first half alone, as weights say and as it is.
    let weights = Array1::from_shape_fn(150, |i| f32::from(u8::from(i < 75)));
    let weighted = Dataset::new(x.clone(), labels.clone()).with_weights(weights);
    let mut first = x.clone();
    first.slice_axis_inplace(ndarray_0_16::Axis(0), ndarray_0_16::Slice::from(..75));
    let half = Dataset::new(first, labels.iter().take(75).copied().collect());
    let (a, b) = (Estimator::default().fit(&weighted).unwrap(), Estimator::default().fit(&half).unwrap());
    assert!((a.model().theta() - b.model().theta()).norm_max() < 1e-6);
    assert!((a.model().theta() - model.model().theta()).norm_max() > 1e-3);
}

#[test]
fn unconverged() {
    let (x, labels) = samples();
    let error = Estimator::default().max_iterations(1).fit(&Dataset::new(x, labels)).unwrap_err();
    assert!(matches!(error, FitError::NotConverged(_)), "{error}");
}
