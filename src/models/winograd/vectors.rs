//! The small sums before and behind the matrix products, side by side for as many channels as a vector has.

#![allow(clippy::needless_range_loop)] // c is a place in many tables at once

use multiversion::multiversion;

use crate::real::Real;

/// Numbers side by side: one vector register with AVX-512, two with AVX2.
pub(in crate::models) const LANES: usize = 16;
type Lanes<T = f32> = [T; LANES];

#[inline(always)]
fn plus<T: Real>(a: &Lanes<T>, b: &Lanes<T>) -> Lanes<T> {
    let mut sum = [T::of(0.); LANES];
    for i in 0..LANES {
        sum[i] = a[i] + b[i];
    }
    sum
}

#[inline(always)]
fn minus<T: Real>(a: &Lanes<T>, b: &Lanes<T>) -> Lanes<T> {
    let mut difference = [T::of(0.); LANES];
    for i in 0..LANES {
        difference[i] = a[i] - b[i];
    }
    difference
}

#[inline(always)]
fn half<T: Real>(a: &Lanes<T>) -> Lanes<T> {
    let mut half = [T::of(0.); LANES];
    for i in 0..LANES {
        half[i] = a[i] * T::of(0.5);
    }
    half
}

#[inline(always)]
fn widened(a: &Lanes) -> Lanes<f64> {
    let mut wide = [0.; LANES];
    for i in 0..LANES {
        wide[i] = f64::from(a[i]);
    }
    wide
}

#[inline(always)]
fn narrowed(a: &Lanes<f64>) -> Lanes {
    let mut narrow = [0.; LANES];
    for i in 0..LANES {
        narrow[i] = a[i] as f32;
    }
    narrow
}

#[inline(always)]
fn lanes(x: &[f32]) -> &[Lanes] {
    x.as_chunks().0
}

#[inline(always)]
fn lanes_mut(x: &mut [f32]) -> &mut [Lanes] {
    x.as_chunks_mut().0
}

/// G of three numbers.
#[inline(always)]
fn spread<T: Real>(a: &Lanes<T>, b: &Lanes<T>, c: &Lanes<T>) -> [Lanes<T>; 4] {
    let (ends, middle) = (half(&plus(a, c)), half(b));
    [*a, plus(&ends, &middle), minus(&ends, &middle), *c]
}

/// Gᵀ of four numbers.
#[inline(always)]
fn gathered(a: &Lanes, b: &Lanes, c: &Lanes, d: &Lanes) -> [Lanes; 3] {
    let (sum, difference) = (half(&plus(b, c)), half(&minus(b, c)));
    [plus(a, &sum), difference, plus(&sum, d)]
}

/// A of two numbers.
#[inline(always)]
fn fanned(a: &Lanes, b: &Lanes) -> [Lanes; 4] {
    [*a, plus(a, b), minus(a, b), minus(&[0.; LANES], b)]
}

/// Bᵀ of four numbers.
#[inline(always)]
fn seen(a: &Lanes, b: &Lanes, c: &Lanes, d: &Lanes) -> [Lanes; 4] {
    [minus(a, c), plus(b, c), minus(c, b), minus(b, d)]
}

/// Aᵀ of four numbers.
#[inline(always)]
fn left(a: &Lanes, b: &Lanes, c: &Lanes, d: &Lanes) -> [Lanes; 2] {
    [plus(&plus(a, b), c), minus(&minus(b, c), d)]
}

/// G g Gᵀ of one output's kernels, `g` `[3, 3, inputs]`, to its 16 places. To turn a kernel by 180° exchanges the first and
/// the last of its places, down and across.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn spread_kernels(g: &[f32], u: &mut [&mut [f32]], turned: bool) {
    let (wide, g) = (g.len() / (9 * LANES), lanes(g));
    let place = |i: usize| if turned && i.is_multiple_of(3) { 3 - i } else { i };
    for c in 0..wide {
        let at = |row: usize, column: usize| widened(&g[(3 * row + column) * wide + c]);
        let column = |i: usize| spread(&at(0, i), &at(1, i), &at(2, i));
        let [p, q, r] = [column(0), column(1), column(2)];
        for i in 0..4 {
            for (k, found) in spread(&p[i], &q[i], &r[i]).iter().enumerate() {
                lanes_mut(u[4 * place(i) + place(k)])[c] = narrowed(found);
            }
        }
    }
}

/// Gᵀ u G of one output's sums, `u` `[16, outputs, inputs]`, to its kernels, `g` `[3, 3, inputs]`.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn gather_kernels(u: &[f32], [output, outputs]: [usize; 2], g: &mut [f32]) {
    let (wide, u, g) = (g.len() / (9 * LANES), lanes(u), lanes_mut(g));
    for c in 0..wide {
        let at = |place: usize| &u[(place * outputs + output) * wide + c];
        let column = |i: usize| gathered(at(i), at(4 + i), at(8 + i), at(12 + i));
        let [p, q, r, s] = [column(0), column(1), column(2), column(3)];
        for i in 0..3 {
            for (k, found) in gathered(&p[i], &q[i], &r[i], &s[i]).iter().enumerate() {
                g[(3 * i + k) * wide + c] = *found;
            }
        }
    }
}

/// Bᵀ d B of a row of tiles, which sees four `rows` of pixels and `zeros` beside them, to its 16 places, `[across, inputs]` each.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn take(rows: [&[f32]; 4], zeros: &[f32], v: &mut [&mut [f32]], inputs: usize) {
    let wide = inputs / LANES;
    let zeros = &lanes(zeros)[..wide];
    for tile in 0..v[0].len() / inputs {
        let mut d = [[zeros; 4]; 4];
        for (row, d) in rows.iter().zip(&mut d) {
            for (i, d) in d.iter_mut().enumerate() {
                let at = (2 * tile + i).checked_sub(1).and_then(|x| lanes(row).get(x * wide..(x + 1) * wide));
                *d = at.unwrap_or(zeros);
            }
        }
        for c in 0..wide {
            let mut columns = [[[0.; LANES]; 4]; 4];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = seen(&d[0][i][c], &d[1][i][c], &d[2][i][c], &d[3][i][c]);
            }
            let [p, q, r, s] = &columns;
            for i in 0..4 {
                for (k, found) in seen(&p[i], &q[i], &r[i], &s[i]).iter().enumerate() {
                    lanes_mut(v[4 * i + k])[tile * wide + c] = *found;
                }
            }
        }
    }
}

/// A y Aᵀ of a row of tiles with two `rows` of outputs, and `zeros` behind them, to its 16 places, `[across, outputs]` each.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn take_back(rows: [&[f32]; 2], zeros: &[f32], w: &mut [&mut [f32]], outputs: usize) {
    let wide = outputs / LANES;
    let zeros = &lanes(zeros)[..wide];
    for tile in 0..w[0].len() / outputs {
        let mut y = [[zeros; 2]; 2];
        for (row, y) in rows.iter().zip(&mut y) {
            for (i, y) in y.iter_mut().enumerate() {
                let x = 2 * tile + i;
                *y = lanes(row).get(x * wide..(x + 1) * wide).unwrap_or(zeros);
            }
        }
        for c in 0..wide {
            let (p, q) = (fanned(&y[0][0][c], &y[1][0][c]), fanned(&y[0][1][c], &y[1][1][c]));
            for i in 0..4 {
                for (k, found) in fanned(&p[i], &q[i]).iter().enumerate() {
                    lanes_mut(w[4 * i + k])[tile * wide + c] = *found;
                }
            }
        }
    }
}

/// Aᵀ m A of the tiles from `from` on, `m` `[16, tiles, outputs]`, plus `bias`, then the activation: two rows of outputs, or
/// one where `low` is empty.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn put(
    m: &[f32],
    [outputs, tiles, from]: [usize; 3],
    [top, low]: [&mut [f32]; 2],
    bias: &[f32],
    slope: f32,
) {
    let (wide, m, bias) = (outputs / LANES, lanes(m), lanes(bias));
    let (top, low) = (lanes_mut(top), lanes_mut(low));
    for tile in 0..(top.len() / wide).div_ceil(2) {
        for c in 0..wide {
            let at = |place: usize| &m[(place * tiles + from + tile) * wide + c];
            let mut columns = [[[0.; LANES]; 2]; 4];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = left(at(i), at(4 + i), at(8 + i), at(12 + i));
            }
            let [p, q, r, s] = &columns;
            for (row, i) in [(&mut *top, 0), (&mut *low, 1)] {
                for (pixel, found) in left(&p[i], &q[i], &r[i], &s[i]).iter().enumerate() {
                    if let Some(y) = row.get_mut((2 * tile + pixel) * wide + c) {
                        *y = activated(plus(found, &bias[c]), slope);
                    }
                }
            }
        }
    }
}

/// x · slope, and 0 of slope 0, also of infinity. The branch is outside: one for each number would keep it from vectors.
#[inline(always)]
pub(in crate::models) fn below<const N: usize>(x: [f32; N], slope: f32) -> [f32; N] {
    let mut low = [0.; N];
    if slope != 0. {
        for i in 0..N {
            low[i] = x[i] * slope;
        }
    }
    low
}

/// The activation of a slope below 0; a NaN stays one.
#[inline(always)]
pub(in crate::models) fn activated<const N: usize>(x: [f32; N], slope: f32) -> [f32; N] {
    let (low, mut y) = (below(x, slope), [0.; N]);
    for i in 0..N {
        y[i] = if x[i] < 0. { low[i] } else { x[i] };
    }
    y
}
