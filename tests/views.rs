//! Promise: matrices of ndarray and nalgebra are read and written where they are, whatever their strides.

use faer::{Mat, MatRef};
use softmax_regression::{Batch, Error, Features, IntoFaer, Objective, Operand, Targets, Workspace};

/// What faer's own matrices give.
fn truth(x: MatRef<'_, f64>, labels: &[u32], theta: MatRef<'_, f64>) -> (f64, Mat<f64>) {
    let mut gradient = Mat::zeros(theta.nrows(), theta.ncols());
    let batch = Batch::new(x, labels).unwrap();
    let loss =
        Objective::default().loss_and_gradient(&batch, theta, gradient.as_mut(), &mut Workspace::new());
    (loss.unwrap(), gradient)
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-14 * b.abs().max(1.0), "{a} instead of {b}");
}

#[test]
fn of_ndarray() {
    use ndarray::{Array1, Array2, ArrayView2, Axis, Slice};
    fn part<'a>(all: &'a Array2<f64>, rows: Slice, columns: Slice) -> ArrayView2<'a, f64> {
        let mut view = all.view();
        view.slice_axis_inplace(Axis(0), rows);
        view.slice_axis_inplace(Axis(1), columns);
        view
    }
    let all = Array2::from_shape_fn((14, 12), |(i, j)| (i * 5 + j * 3) as f64 % 7.0 - 3.0);
    let labels = Array1::from_shape_fn(7, |i| i as u32 % 3);
    let theta = Array2::from_shape_fn((3, 6), |(k, j)| (k as f64 - 1.0) / (j + 1) as f64);
    let first = part(&all, Slice::from(..7), Slice::from(..6));
    for x in [
        first,
        part(&all, Slice::new(0, None, 2), Slice::new(1, None, 2)),
        part(&all, Slice::new(0, Some(7), -1), Slice::from(6..)),
        part(&all, Slice::from(..6), Slice::from(..7)).reversed_axes(),
    ] {
        assert_eq!(x.dim(), (7, 6));
        let copy = Mat::from_fn(7, 6, |i, j| x[(i, j)]);
        let weight = Mat::from_fn(6, 3, |j, k| theta[(k, j)]);
        let (loss, gradient) = truth(copy.as_ref(), labels.as_slice().unwrap(), weight.as_ref());
        // K×n, as scikit-learn has it.
        let mut out = Array2::zeros((3, 6));
        let batch = Batch::new(x, Targets::try_from(labels.view()).unwrap()).unwrap();
        let found = Objective::default().loss_and_gradient(
            &batch,
            theta.view().reversed_axes().into_faer(),
            out.view_mut().reversed_axes().into_faer(),
            &mut Workspace::new(),
        );
        near(found.unwrap(), loss);
        out.indexed_iter().for_each(|((k, j), &g)| near(g, gradient[(j, k)]));
    }
    assert_eq!(Features::from(&all).samples(), 14);
    let soft = Array2::from_elem((7, 3), 1.0 / 3.0);
    assert_eq!(Batch::new(first, &soft).unwrap().samples(), 7);
    assert_eq!(Batch::new(first, soft.view()).unwrap().samples(), 7);
    let labels = Array1::from_iter(0..9_u8);
    let mut gaps = labels.view();
    gaps.slice_axis_inplace(Axis(0), Slice::new(0, None, 3));
    let error = Targets::<f64>::try_from(gaps).unwrap_err();
    assert_eq!(error, Error::NotContiguous { operand: Operand::Targets, len: 3, stride: 3 });
    assert_eq!(Targets::<f64>::try_from(&labels).unwrap().samples(), 9);
}

#[test]
fn of_nalgebra() {
    use nalgebra::{Const, DMatrix, DVector, Dyn, SMatrix, U1};
    let all = DMatrix::from_fn(14, 12, |i, j| (i * 5 + j * 3) as f64 % 7.0 - 3.0);
    let labels = DVector::from_fn(7, |i, _| i as u32 % 3);
    let theta = SMatrix::<f64, 6, 3>::from_fn(|j, k| (k as f64 - 1.0) / (j + 1) as f64);
    let weight = Mat::from_fn(6, 3, |j, k| theta[(j, k)]);
    let copy = Mat::from_fn(7, 6, |i, j| all[(2 * i, 2 * j)]);
    let (loss, gradient) = truth(copy.as_ref(), labels.as_slice(), weight.as_ref());
    let strided = all.view_with_steps((0, 0), (7, 6), (1, 1));
    let fixed = SMatrix::<f64, 7, 6>::from_fn(|i, j| all[(2 * i, 2 * j)]);
    for x in [Features::from(strided), Features::from(&fixed)] {
        let mut out = DMatrix::zeros(6, 3);
        let batch = Batch::new(x, &labels).unwrap();
        let found = Objective::default().loss_and_gradient(
            &batch,
            theta.as_view::<Const<6>, Const<3>, Const<1>, Const<6>>().into_faer(),
            out.as_view_mut::<Dyn, Dyn, U1, Dyn>().into_faer(),
            &mut Workspace::new(),
        );
        near(found.unwrap(), loss);
        (0..6).for_each(|j| (0..3).for_each(|k| near(out[(j, k)], gradient[(j, k)])));
    }
    let soft = DMatrix::from_element(14, 3, 1.0 / 3.0);
    assert_eq!(Batch::new(&all, &soft).unwrap().samples(), 14);
    assert_eq!(Batch::new(&all, soft.as_view::<Dyn, Dyn, U1, Dyn>()).unwrap().samples(), 14);
}
