//! x
use faer::{linalg::matmul::matmul, *};
use std::time::Instant;
fn main() {
    let a: Vec<usize> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let (m, n, k) = (a[0], a[1], a[2]);
    let x = vec![1.0f32; m * n];
    let x = MatRef::from_row_major_slice(&x, m, n);
    let th = vec![0.5f32; n * k];
    let thc = MatRef::from_column_major_slice(&th, n, k);
    let thr = MatRef::from_row_major_slice(&th, n, k);
    let mut z = vec![0.0f32; m * k];
    let mut z2 = vec![0.0f32; m * k];
    let mut g = vec![0.0f32; n * k];
    let mut g2 = vec![0.0f32; n * k];
    let fl = 2.0 * (m * n * k) as f64 / 1e9;
    let mut best = [f64::MAX; 8];
    for _ in 0..5 {
        for w in 0..8 {
            let t = Instant::now();
            let zr = MatMut::from_row_major_slice_mut(&mut z, m, k);
            let zc = MatMut::from_column_major_slice_mut(&mut z2, m, k);
            let gc = MatMut::from_column_major_slice_mut(&mut g, n, k);
            let gr = MatMut::from_row_major_slice_mut(&mut g2, n, k);
            match w {
                0 => matmul(zr, Accum::Replace, x, thc, 1.0, Par::Seq),
                1 => matmul(zc, Accum::Replace, x, thc, 1.0, Par::Seq),
                2 => matmul(zr, Accum::Replace, x, thr, 1.0, Par::Seq),
                3 => matmul(zc, Accum::Replace, x, thr, 1.0, Par::Seq),
                4 => matmul(gc, Accum::Add, x.transpose(), zr.as_ref(), 1.0, Par::Seq),
                5 => matmul(gc, Accum::Add, x.transpose(), zc.as_ref(), 1.0, Par::Seq),
                6 => matmul(gr, Accum::Add, x.transpose(), zr.as_ref(), 1.0, Par::Seq),
                _ => matmul(gr, Accum::Add, x.transpose(), zc.as_ref(), 1.0, Par::Seq),
            }
            best[w] = best[w].min(t.elapsed().as_secs_f64());
        }
    }
    let g = best.map(|b| (fl / b) as i32);
    println!(
        "{m}x{n}x{k}: fwd zr/thc {} zc/thc {} zr/thr {} zc/thr {} | bwd gc/zr {} gc/zc {} gr/zr {} gr/zc {}",
        g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]
    );
}
