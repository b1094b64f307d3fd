//! Eigenfaces.

use rankle::distance::{Metric, normalize};
use rankle::models::eigenfaces::Eigenfaces;
use tch::{Device, Kind, Tensor};

use crate::common::{all_close, close, matrix, value};

#[test]
fn eigenfaces_are_the_leading_components() {
    // Two strong directions in ten dimensions.
    let (a, b) = (matrix(1, 1, 10), matrix(2, 1, 10));
    let x = matrix(3, 200, 1) * 5. * &a + matrix(4, 200, 1) * 2. * &b + matrix(5, 200, 10) * 0.01 + 7.;
    for whiten in [false, true] {
        let y = Eigenfaces::fit(&x, 2).embed(&x, whiten);
        assert_eq!(y.size(), [200, 2]);
        all_close(
            &y.square().sum_dim_intlist(1, false, Kind::Double),
            &Tensor::ones([200], (Kind::Double, Device::Cpu)),
            1e-9,
        );
        if !whiten {
            // All of a centred row lies in the plane of the two: its unit components give back its direction.
            let centred = &x - x.mean_dim(0, true, None::<Kind>);
            let cosine = |i: i64, j: i64| {
                value(
                    &normalize(&centred.get(i).unsqueeze(0))
                        .matmul(&normalize(&centred.get(j).unsqueeze(1).transpose(0, 1)).transpose(0, 1)),
                )
            };
            let (near, theirs) = (value(&(y.get(0) * y.get(1)).sum(Kind::Double)), cosine(0, 1));
            close(near, theirs, 0.02);
        }
    }
    // More components than there are: as many as there can be.
    assert_eq!(Eigenfaces::fit(&x.narrow(0, 0, 4), 50).embed(&x, false).size(), [200, 3]);
    // Both ways to the components: 9 rows of 10 numbers by [9, 9], and the same with a zero column less by [10, 10].
    let (few, many) = (x.narrow(0, 0, 9), Tensor::cat(&[x.narrow(0, 0, 9), x.narrow(0, 0, 9)], 0));
    for whiten in [false, true] {
        let (a, b) = (Eigenfaces::fit(&few, 4).embed(&x, whiten), Eigenfaces::fit(&many, 4).embed(&x, whiten));
        // Components may change sign; distances may not.
        let d = |y: &Tensor| Metric::SquaredEuclidean.matrix(y, y);
        all_close(&d(&a), &d(&b), 1e-6);
    }
}
