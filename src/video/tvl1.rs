//! TV-L1 optical flow (Zach, Pock and Bischof 2007): the flow with little total variation whose warped image differs
//! little in the L1 norm, by a duality scheme from coarse to fine.

/// Numbers of a picture, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Plane {
    /// A picture of `width` x `height` numbers.
    ///
    /// # Panics
    /// Where the numbers are not as many, or there are none.
    pub fn new(width: usize, height: usize, values: Vec<f32>) -> Plane {
        assert!(width > 0 && height > 0 && values.len() == width * height, "width times height numbers");
        Plane { width, height, values }
    }

    fn zeros(width: usize, height: usize) -> Plane {
        Plane { width, height, values: vec![0.; width * height] }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The numbers, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y * self.width + x]
    }

    /// Bilinear between pixels; the edge's value beyond the edge.
    fn between(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x.clamp(0., (self.width - 1) as f32), y.clamp(0., (self.height - 1) as f32));
        let (x0, y0) = (x as usize, y as usize);
        let (x1, y1) = ((x0 + 1).min(self.width - 1), (y0 + 1).min(self.height - 1));
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        let top = self.at(x0, y0) * (1. - fx) + self.at(x1, y0) * fx;
        let bottom = self.at(x0, y1) * (1. - fx) + self.at(x1, y1) * fx;
        top * (1. - fy) + bottom * fy
    }

    /// Half as large, each pixel the mean of its four.
    fn halved(&self) -> Plane {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut out = Plane::zeros(width, height);
        for y in 0..height {
            for x in 0..width {
                let (x1, y1) = ((2 * x + 1).min(self.width - 1), (2 * y + 1).min(self.height - 1));
                let sum = self.at(2 * x, 2 * y) + self.at(x1, 2 * y) + self.at(2 * x, y1) + self.at(x1, y1);
                out.values[y * width + x] = sum / 4.;
            }
        }
        out
    }

    /// A flow component from a picture half as large: twice the places, twice the length.
    fn doubled(&self, width: usize, height: usize) -> Plane {
        let mut out = Plane::zeros(width, height);
        for y in 0..height {
            for x in 0..width {
                out.values[y * width + x] = 2. * self.between((x as f32 - 0.5) / 2., (y as f32 - 0.5) / 2.);
            }
        }
        out
    }
}

/// The constants of the scheme.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// Weight of the data term against the total variation, for values in 0..255.
    pub lambda: f32,
    /// Tightness of the coupling between the two terms.
    pub theta: f32,
    /// Step of the dual update.
    pub tau: f32,
    /// Pictures are halved until their shorter side would fall below this.
    pub smallest: usize,
    /// Linearisations at each scale.
    pub warps: usize,
    /// Iterations of each, at most.
    pub iterations: usize,
    /// They end where the flow's mean square change falls below this.
    pub epsilon: f32,
}

impl Default for Constants {
    /// λ 0.15, θ 0.3, τ 0.25, 5 warps, as the common implementations have them; 30 iterations.
    fn default() -> Constants {
        Constants { lambda: 0.15, theta: 0.3, tau: 0.25, smallest: 16, warps: 5, iterations: 30, epsilon: 1e-4 }
    }
}

/// The flow from `first` to `second`, values in 0..255, in pixels: `second(x + u, y + v) ≈ first(x, y)`. Returns u and v.
///
/// # Panics
/// Where the two differ in size.
pub fn flow(first: &Plane, second: &Plane, constants: Constants) -> (Plane, Plane) {
    assert_eq!((first.width, first.height), (second.width, second.height), "two frames of one size");
    let (mut pyramid, mut scale) = (Vec::new(), (first.clone(), second.clone()));
    while scale.0.width.min(scale.0.height) / 2 >= constants.smallest.max(2) {
        let half = (scale.0.halved(), scale.1.halved());
        pyramid.push(scale);
        scale = half;
    }
    let (mut u, mut v) = (Plane::zeros(scale.0.width, scale.0.height), Plane::zeros(scale.0.width, scale.0.height));
    refine(&scale.0, &scale.1, &mut u, &mut v, constants);
    while let Some((first, second)) = pyramid.pop() {
        u = u.doubled(first.width, first.height);
        v = v.doubled(first.width, first.height);
        refine(&first, &second, &mut u, &mut v, constants);
    }
    (u, v)
}

/// The two components of a dual variable.
struct Dual {
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Dual {
    fn zeros(count: usize) -> Dual {
        Dual { x: vec![0.; count], y: vec![0.; count] }
    }

    /// Backward differences; 0 beyond the edge.
    fn divergence(&self, i: usize, x: usize, y: usize, width: usize, height: usize) -> f32 {
        let left = if x > 0 { self.x[i - 1] } else { 0. };
        let above = if y > 0 { self.y[i - width] } else { 0. };
        let here_x = if x + 1 < width { self.x[i] } else { 0. };
        let here_y = if y + 1 < height { self.y[i] } else { 0. };
        here_x - left + here_y - above
    }

    /// One step of the projected ascent for the component `u`.
    fn step(&mut self, u: &Plane, ratio: f32) {
        let (width, height) = (u.width, u.height);
        for y in 0..height {
            for x in 0..width {
                let i = y * width + x;
                let dx = if x + 1 < width { u.values[i + 1] - u.values[i] } else { 0. };
                let dy = if y + 1 < height { u.values[i + width] - u.values[i] } else { 0. };
                let scale = 1. + ratio * (dx * dx + dy * dy).sqrt();
                self.x[i] = (self.x[i] + ratio * dx) / scale;
                self.y[i] = (self.y[i] + ratio * dy) / scale;
            }
        }
    }
}

/// One scale: `warps` linearisations around the flow so far.
fn refine(first: &Plane, second: &Plane, u: &mut Plane, v: &mut Plane, c: Constants) {
    let (width, height) = (first.width, first.height);
    let count = width * height;
    let (mut pu, mut pv) = (Dual::zeros(count), Dual::zeros(count));
    // Central differences of the second picture.
    let (mut gx, mut gy) = (Plane::zeros(width, height), Plane::zeros(width, height));
    for y in 0..height {
        for x in 0..width {
            let (left, right) = (second.at(x.saturating_sub(1), y), second.at((x + 1).min(width - 1), y));
            let (above, below) = (second.at(x, y.saturating_sub(1)), second.at(x, (y + 1).min(height - 1)));
            gx.values[y * width + x] = (right - left) / 2.;
            gy.values[y * width + x] = (below - above) / 2.;
        }
    }
    for _ in 0..c.warps {
        // ρ(u) = warped + ∇·(u - u₀) - first, with its constant part kept.
        let mut linear = Vec::with_capacity(count);
        for y in 0..height {
            for x in 0..width {
                let i = y * width + x;
                let (px, py) = (x as f32 + u.values[i], y as f32 + v.values[i]);
                let (ix, iy) = (gx.between(px, py), gy.between(px, py));
                let rest = second.between(px, py) - ix * u.values[i] - iy * v.values[i] - first.values[i];
                linear.push((ix, iy, rest, ix * ix + iy * iy));
            }
        }
        for _ in 0..c.iterations {
            let mut change = 0.;
            for y in 0..height {
                for x in 0..width {
                    let i = y * width + x;
                    let (ix, iy, rest, square) = linear[i];
                    let rho = rest + ix * u.values[i] + iy * v.values[i];
                    let bound = c.lambda * c.theta * square;
                    let step = if rho < -bound {
                        c.lambda * c.theta
                    } else if rho > bound {
                        -c.lambda * c.theta
                    } else if square > 1e-9 {
                        -rho / square
                    } else {
                        0.
                    };
                    let nu = u.values[i] + step * ix + c.theta * pu.divergence(i, x, y, width, height);
                    let nv = v.values[i] + step * iy + c.theta * pv.divergence(i, x, y, width, height);
                    change += (nu - u.values[i]).powi(2) + (nv - v.values[i]).powi(2);
                    u.values[i] = nu;
                    v.values[i] = nv;
                }
            }
            pu.step(u, c.tau / c.theta);
            pv.step(v, c.tau / c.theta);
            if change < c.epsilon * count as f32 {
                break;
            }
        }
    }
}
