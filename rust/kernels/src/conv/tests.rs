use super::*;
use crate::parallel::with_forced_threads;
use crate::reference::conv as naive;
use crate::simd::{available, with_isa};
use proptest::prelude::*;

fn numbers<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            T::from_f64((s >> 20) as f64 / (1u64 << 43) as f64 - 1.0)
        })
        .collect()
}

fn out_size(size: usize, k: usize, stride: usize, pad: usize, dilation: usize) -> usize {
    match (size + 2 * pad).checked_sub((k - 1) * dilation + 1) {
        Some(rest) => rest / stride + 1,
        None => 0,
    }
}

/// The usual output size on both axes.
fn geometry(
    [n, c, h, w, o]: [usize; 5],
    kernel: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
) -> Conv2d {
    let out = |d: usize| out_size([h, w][d], kernel[d], stride[d], pad[d], dilation[d]);
    Conv2d {
        n,
        c,
        h,
        w,
        o,
        oh: out(0),
        ow: out(1),
        kernel,
        stride,
        pad,
        dilation,
        groups,
    }
}

type Results<T> = (Vec<T>, Vec<T>, Vec<T>, Vec<T>);

/// y, dx, dw, db of the fast kernels.
fn fast<T: Real>(p: &Conv2d, x: &[T], w: &[T], b: &[T], dy: &[T], act: Activation) -> Results<T> {
    let nan = T::from_f64(f64::NAN);
    let (mut y, mut dx) = (vec![nan; p.y_len()], vec![nan; p.x_len()]);
    let (mut dw, mut db) = (vec![nan; p.w_len()], vec![nan; p.o]);
    conv2d(p, x, w, Some(b), act, &mut y);
    conv2d_dx(p, dy, w, &mut dx);
    conv2d_dw(p, x, dy, Some(&mut dw), Some(&mut db));
    (y, dx, dw, db)
}

/// Against the twins: each sum of `terms` products of numbers below 1 within gamma of its size, on every path, and the
/// same bits on 1, 2, 3 and 8 threads.
fn check<T: Real>(p: &Conv2d, act: Activation) {
    let (x, w) = (numbers::<T>(p.x_len(), 1), numbers::<T>(p.w_len(), 2));
    let (b, dy) = (numbers::<T>(p.o, 3), numbers::<T>(p.y_len(), 4));
    let mut want = (
        vec![T::ZERO; p.y_len()],
        vec![T::ZERO; p.x_len()],
        vec![T::ZERO; p.w_len()],
        vec![T::ZERO; p.o],
    );
    naive::conv2d(p, &x, &w, Some(&b), act, &mut want.0);
    naive::conv2d_dx(p, &dy, &w, &mut want.1);
    naive::conv2d_dw(p, &x, &dy, Some(&mut want.2), Some(&mut want.3));
    // |A||B| of every sum, by the twins themselves.
    let abs = |v: &[T]| -> Vec<f64> { v.iter().map(|x| x.to_f64().abs()).collect() };
    let (ax, aw, ab, ady) = (abs(&x), abs(&w), abs(&b), abs(&dy));
    let mut size = (
        vec![0.0; p.y_len()],
        vec![0.0; p.x_len()],
        vec![0.0; p.w_len()],
        vec![0.0; p.o],
    );
    naive::conv2d(p, &ax, &aw, Some(&ab), Activation::None, &mut size.0);
    naive::conv2d_dx(p, &ady, &aw, &mut size.1);
    naive::conv2d_dw(p, &ax, &ady, Some(&mut size.2), Some(&mut size.3));
    let u = if size_of::<T>() == 4 {
        2f64.powi(-24)
    } else {
        2f64.powi(-53)
    };
    let area = p.kernel[0] * p.kernel[1];
    let close = |got: &[T], want: &[T], size: &[f64], terms: usize, what: &str| {
        for i in 0..want.len() {
            let (g, w) = (got[i].to_f64(), want[i].to_f64());
            // The scalar path rounds product and sum: twice the count. Activations have slope below 1.2, error 4 ULP.
            let bound = 1.2 * (2 * terms + 4) as f64 * u * size[i] + 8.0 * u * w.abs();
            assert!((g - w).abs() <= bound, "{what}[{i}]: {g}, not {w}; {p:?}");
        }
    };
    for isa in available() {
        let mut first: Option<Results<T>> = None;
        for threads in [1, 2, 3, 8] {
            let got =
                with_forced_threads(threads, || with_isa(isa, || fast(p, &x, &w, &b, &dy, act)));
            if first.is_none() {
                close(&got.0, &want.0, &size.0, p.c / p.groups * area, "y");
                close(&got.1, &want.1, &size.1, p.o / p.groups * area, "dx");
                close(&got.2, &want.2, &size.2, p.n * p.oh * p.ow, "dw");
                close(&got.3, &want.3, &size.3, p.n * p.oh * p.ow, "db");
            }
            assert!(
                *first.get_or_insert_with(|| got.clone()) == got,
                "{threads} threads, {p:?}"
            );
        }
    }
}

#[test]
fn depthwise() {
    let one = [1, 1];
    let all = [
        geometry([2, 5, 9, 11, 5], [3, 3], one, one, one, 5),
        geometry([2, 3, 40, 67, 6], [5, 5], one, [2, 2], one, 3),
        geometry([1, 3, 17, 18, 12], [3, 2], [2, 1], [1, 0], [1, 2], 3),
        geometry([2, 4, 19, 33, 4], [3, 3], [2, 2], one, one, 4),
        geometry([2, 2, 23, 41, 4], [4, 7], [3, 3], [2, 3], [2, 1], 2),
        geometry([2, 2, 13, 37, 2], [1, 3], [1, 2], [0, 5], [1, 3], 2),
        geometry([2, 4, 1, 100, 4], [1, 5], one, [0, 4], one, 4),
        // More padding than the kernel reaches, and an image smaller than the kernel.
        geometry([1, 2, 3, 3, 2], [2, 2], one, [3, 3], one, 2),
        geometry([1, 2, 2, 2, 2], [3, 3], [2, 2], [2, 2], one, 2),
        // Several strips, the last of them a single row.
        geometry([1, 2, 70, 200, 2], [3, 3], one, one, one, 2),
        geometry([1, 2, 61, 200, 4], [3, 3], one, one, one, 2),
        geometry([1, 2, 50, 1000, 2], [3, 3], [2, 2], one, one, 2),
        // 3 x 3: several outputs per channel, all or no lanes, more padding than the kernel or a vector reaches, single pixels.
        geometry([2, 3, 8, 32, 12], [3, 3], one, one, one, 3),
        geometry([2, 2, 7, 18, 2], [3, 3], one, [0, 0], one, 2),
        geometry([1, 2, 5, 15, 2], [3, 3], one, [2, 2], one, 2),
        geometry([1, 2, 2, 3, 4], [3, 3], one, [5, 21], one, 2),
        geometry([1, 2, 1, 1, 2], [3, 3], one, one, one, 2),
    ];
    for p in &all {
        check::<f32>(p, Activation::Relu);
        check::<f64>(p, Activation::None);
        check::<f32>(p, Activation::Gelu);
    }
}

#[test]
fn models() {
    let one = [1, 1];
    let all = [
        geometry([3, 1, 28, 28, 6], [5, 5], one, [0, 0], one, 1),
        geometry([9, 6, 12, 12, 16], [5, 5], one, [0, 0], one, 1),
        geometry([2, 3, 23, 22, 9], [7, 7], [2, 2], [3, 3], one, 1),
        geometry([2, 33, 8, 9, 20], [3, 3], one, one, one, 1),
        geometry([2, 8, 7, 7, 8], [3, 3], one, one, one, 8),
        geometry([2, 40, 6, 5, 24], one, one, [0, 0], one, 1),
        geometry([2, 5, 9, 9, 7], one, [2, 2], [0, 0], one, 1),
        geometry([2, 4, 19, 17, 6], [3, 3], one, [2, 2], [2, 2], 2),
        geometry([1, 50, 4, 4, 3], [3, 3], one, one, one, 1),
        geometry([2, 3, 1, 300, 4], [1, 9], [1, 3], [0, 4], [1, 2], 1),
        geometry([1, 2, 1, 3000, 2], [1, 3], one, [0, 1], one, 1),
        geometry([1, 70, 2, 1500, 2], [3, 3], [1, 2], one, one, 1),
        // Taps that share copies, with vectors of single rows: whole, partial, strided, dilated, in groups.
        geometry([2, 45, 16, 16, 32], [3, 3], one, one, one, 1),
        geometry([3, 5, 15, 24, 16], [3, 5], [2, 2], [1, 2], one, 1),
        geometry([1, 24, 10, 40, 32], [3, 3], one, [2, 2], [2, 2], 2),
        geometry([2, 20, 1, 700, 16], [1, 5], one, [0, 2], one, 1),
        // Small images that share a strip, and the last one alone.
        geometry([5, 50, 7, 7, 48], [3, 3], one, one, one, 1),
        geometry([9, 60, 3, 5, 16], [2, 3], one, [0, 1], one, 1),
        // Read in place.
        geometry([3, 40, 13, 11, 31], one, one, [0, 0], one, 1),
    ];
    for p in &all {
        check::<f32>(p, Activation::Relu);
    }
    for p in &all[1..9] {
        check::<f64>(p, Activation::None);
    }
}

#[test]
fn activations() {
    let p = geometry([2, 3, 7, 9, 5], [3, 2], [1, 1], [1, 0], [1, 1], 1);
    for act in [
        Activation::Gelu,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
    ] {
        check::<f32>(&p, act);
    }
}

/// `oh`, `ow` smaller or larger than usual: uncovered pixels get gradient 0, the padding at the end may be anything.
#[test]
fn any_output_size() {
    let p = geometry([2, 3, 10, 11, 4], [3, 3], [2, 2], [0, 0], [1, 1], 1);
    check::<f32>(&p, Activation::None);
    check::<f32>(&Conv2d { oh: 2, ow: 3, ..p }, Activation::None);
    check::<f32>(&Conv2d { oh: 8, ow: 9, ..p }, Activation::None);
    let even = geometry([1, 2, 6, 6, 2], [2, 4], [1, 1], [0, 1], [1, 1], 1);
    check::<f32>(
        &Conv2d {
            oh: 6,
            ow: 6,
            ..even
        },
        Activation::None,
    );
    let dx = |p: &Conv2d| {
        let mut dx = vec![f32::NAN; p.x_len()];
        conv2d_dx(p, &vec![1.0; p.y_len()], &vec![1.0; p.w_len()], &mut dx);
        dx
    };
    // 10 rows, windows 0..3, 2..5, 4..7, 6..9: the last row is never read.
    assert!(dx(&p)[9 * 11..10 * 11].iter().all(|&x| x == 0.0));
    // A 1x1 kernel with stride 2 reads every fourth pixel.
    let sparse = dx(&geometry(
        [1, 1, 4, 4, 1],
        [1, 1],
        [2, 2],
        [0, 0],
        [1, 1],
        1,
    ));
    assert_eq!(
        sparse,
        [
            1., 0., 1., 0., 0., 0., 0., 0., 1., 0., 1., 0., 0., 0., 0., 0.
        ]
    );
}

/// More channels than are turned together, with vectors that are full and that are not; small images, and long rows.
#[test]
fn many_channels() {
    let thin = |n, c, h, w, o| geometry([n, c, h, w, o], [3, 3], [1, 1], [1, 1], [1, 1], 1);
    check::<f32>(&thin(3, 20, 7, 7, 40), Activation::Relu);
    check::<f32>(&thin(1, 18, 5, 100, 33), Activation::None);
    check::<f64>(&thin(2, 17, 7, 6, 24), Activation::None);
    check::<f32>(
        &geometry([2, 34, 8, 8, 40], [1, 2], [1, 1], [0, 1], [1, 1], 2),
        Activation::None,
    );
}

/// Tap by tap: pixels that some taps miss, strides and dilation, groups, panels that are narrower at the end, batches that are
/// summed in parts.
#[test]
fn many_channels_of_small_images() {
    let one = [1, 1];
    let all = [
        geometry([4, 64, 3, 4, 80], [3, 3], one, one, one, 1),
        geometry([5, 64, 5, 3, 112], [3, 2], [2, 1], [1, 0], [1, 2], 1),
        geometry([1, 64, 4, 4, 64], [5, 5], one, [2, 2], one, 1),
        geometry([2, 128, 5, 4, 128], [2, 2], [2, 2], [0, 1], one, 2),
        geometry([3, 528, 2, 2, 64], [3, 1], one, [1, 0], one, 1),
        geometry([3, 192, 5, 4, 208], [3, 1], one, [1, 0], one, 1),
        geometry([2, 128, 1, 18, 128], [1, 3], one, one, one, 1),
        geometry([5, 384, 4, 3, 416], [3, 3], [1, 2], one, one, 2),
        // No output reads some pixels, and some taps read none.
        geometry([4, 192, 5, 5, 192], one, [2, 2], [0, 0], one, 1),
        geometry([1, 64, 2, 2, 64], [3, 3], [3, 3], [3, 3], one, 1),
        geometry([9, 64, 8, 8, 64], [1, 2], one, [0, 1], one, 1),
        // The same with more channels: for shorter vectors, and the gradient of the weight, which sums over two batches.
        geometry([4, 192, 5, 5, 192], [2, 2], [3, 3], [0, 0], one, 1),
        geometry([20, 192, 2, 2, 192], [3, 3], [3, 3], [3, 3], one, 1),
        geometry([3, 192, 16, 16, 192], [3, 1], one, [1, 0], one, 1),
        // One output, without padding and with it.
        geometry([3, 192, 3, 4, 208], [3, 4], one, [0, 0], one, 1),
        geometry([2, 192, 1, 1, 192], [3, 3], one, one, one, 1),
        // One image, whose pixels are shared out.
        geometry([1, 192, 9, 8, 208], [3, 2], one, [1, 0], one, 1),
    ];
    for p in &all {
        check::<f32>(p, Activation::Relu);
    }
    check::<f64>(&all[5], Activation::Gelu);
    check::<f64>(&all[7], Activation::Silu);
    for p in &all[11..] {
        check::<f64>(p, Activation::None);
    }
    check::<f32>(&Conv2d { n: 0, ..all[5] }, Activation::None);
}

/// Images whose copies are not made all at once.
#[test]
fn many_channels_of_many_images() {
    let one = [1, 1];
    let p = geometry([7, 192, 16, 16, 192], [2, 1], one, [0, 0], one, 1);
    check::<f32>(&p, Activation::None);
    let p = geometry([25, 384, 7, 7, 384], [1, 2], one, [0, 1], one, 2);
    check::<f32>(&p, Activation::Relu);
}

#[test]
fn no_bias() {
    for channels in [5, 64, 192] {
        let p = geometry(
            [4, channels, 5, 5, channels],
            [3, 3],
            [1, 1],
            [1, 1],
            [1, 1],
            1,
        );
        let (x, w) = (numbers::<f32>(p.x_len(), 1), numbers::<f32>(p.w_len(), 2));
        let [mut with, mut without] = [(); 2].map(|()| vec![f32::NAN; p.y_len()]);
        for isa in available() {
            with_isa(isa, || {
                conv2d(
                    &p,
                    &x,
                    &w,
                    Some(&vec![0.0; p.o]),
                    Activation::None,
                    &mut with,
                );
                conv2d(&p, &x, &w, None, Activation::None, &mut without);
            });
            assert_eq!(with, without);
        }
    }
}

#[test]
fn empty_axes() {
    let p = geometry([2, 3, 5, 5, 4], [3, 3], [1, 1], [1, 1], [1, 1], 1);
    check::<f32>(&Conv2d { n: 0, ..p }, Activation::None);
    check::<f32>(&Conv2d { c: 0, ..p }, Activation::None);
    check::<f32>(&Conv2d { o: 0, ..p }, Activation::None);
    check::<f32>(&Conv2d { oh: 0, ..p }, Activation::None);
    check::<f32>(&Conv2d { h: 0, ..p }, Activation::None);
}

#[test]
fn only_what_is_asked_for() {
    let p = geometry([3, 2, 6, 6, 3], [3, 3], [1, 1], [0, 0], [1, 1], 1);
    let (x, dy) = (numbers::<f32>(p.x_len(), 1), numbers::<f32>(p.y_len(), 2));
    let (mut dw, mut db) = (vec![0.0; p.w_len()], vec![0.0; p.o]);
    conv2d_dw(&p, &x, &dy, Some(&mut dw), Some(&mut db));
    let (mut dw1, mut db1) = (vec![9.0; p.w_len()], vec![9.0; p.o]);
    conv2d_dw(&p, &x, &dy, Some(&mut dw1), None);
    conv2d_dw(&p, &x, &dy, None, Some(&mut db1));
    conv2d_dw::<f32>(&p, &x, &dy, None, None);
    assert_eq!(dw, dw1);
    for (a, b) in db.iter().zip(&db1) {
        assert!((a - b).abs() < 1e-5);
    }
}

#[test]
fn special_values_stay_in_their_image() {
    let p = geometry([3, 2, 9, 9, 5], [3, 3], [1, 1], [1, 1], [1, 1], 1);
    let mut x = numbers::<f32>(p.x_len(), 1);
    x[2 * 81 + 40] = f32::NAN;
    x[5 * 81] = f32::INFINITY;
    let mut y = vec![0.0; p.y_len()];
    for isa in available() {
        with_isa(isa, || {
            conv2d(
                &p,
                &x,
                &numbers(p.w_len(), 2),
                None,
                Activation::None,
                &mut y,
            )
        });
        let image = 5 * 81;
        assert!(y[..image].iter().all(|x| x.is_finite()));
        // Nine pixels see the NaN in the middle, four the infinity in the corner.
        assert_eq!(
            y[image..2 * image].iter().filter(|x| x.is_nan()).count(),
            9 * 5
        );
        assert_eq!(
            y[2 * image..].iter().filter(|x| x.is_infinite()).count(),
            4 * 5
        );
    }
}

#[test]
#[should_panic(expected = "x has 4 elements")]
fn a_short_operand_panics() {
    let p = geometry([1, 1, 3, 3, 1], [2, 2], [1, 1], [0, 0], [1, 1], 1);
    conv2d(
        &p,
        &[0.0f32; 4],
        &[0.0; 4],
        None,
        Activation::None,
        &mut [0.0; 4],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_geometry(
        n in 0usize..4, c in 1usize..4, o in 1usize..6, groups in 1usize..3,
        h in prop::sample::select(vec![1usize, 2, 3, 7, 8, 9, 15, 16, 17]),
        w in prop::sample::select(vec![1usize, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65]),
        kh in 1usize..4, kw in 1usize..6, sh in 1usize..4, sw in 1usize..4,
        ph in 0usize..3, pw in 0usize..4, dh in 1usize..3, dw in 1usize..3,
    ) {
        let p = geometry([n, c * groups, h, w, o * groups], [kh, kw], [sh, sw], [ph, pw], [dh, dw], groups);
        check::<f32>(&p, Activation::Relu);
        if n == 1 {
            check::<f64>(&p, Activation::None);
        }
    }
}
