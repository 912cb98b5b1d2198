use super::*;
use crate::activation::Activation;
use crate::channels_last::run_alone;

fn index(sizes: &[usize], strides: &[usize], f: &mut dyn FnMut(usize, usize)) {
    let n: usize = sizes.iter().product();
    for at in 0..n {
        let (mut left, mut offset) = (at, 0);
        for d in (0..sizes.len()).rev() {
            offset += left % sizes[d] * strides[d];
            left /= sizes[d];
        }
        f(at, offset);
    }
}

fn dense(sizes: &[usize], order: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; sizes.len()];
    let mut step = 1;
    for &d in order.iter().rev() {
        strides[d] = step;
        step *= sizes[d];
    }
    strides
}

fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 100.0 - 5.0).collect()
}

#[test]
fn copies_between_all_orders() {
    let sizes = [2, 5, 33, 19];
    let n: usize = sizes.iter().product();
    for from in [[0, 1, 2, 3], [0, 2, 3, 1], [3, 1, 0, 2]] {
        for to in [[0, 1, 2, 3], [0, 2, 3, 1], [1, 0, 3, 2]] {
            let (a, b) = (dense(&sizes, &from), dense(&sizes, &to));
            let x = noise(n);
            let mut y = vec![f32::NAN; n];
            run_alone(&*copy(Element::F32, &sizes, &a, &b).unwrap(), &[&x], &mut [&mut y]).unwrap();
            let (mut reads, mut writes) = (vec![0; n], vec![0; n]);
            index(&sizes, &a, &mut |i, o| reads[i] = o);
            index(&sizes, &b, &mut |i, o| writes[i] = o);
            (0..n).for_each(|i| assert_eq!(y[writes[i]], x[reads[i]]));
            let bytes: Vec<u8> = (0..n).map(|i| (i % 251) as u8).collect();
            let mut copied = vec![0u8; n];
            run_alone(&*copy(Element::U8, &sizes, &a, &b).unwrap(), &[&bytes], &mut [&mut copied]).unwrap();
            (0..n).for_each(|i| assert_eq!(copied[writes[i]], bytes[reads[i]]));
        }
    }
}

#[test]
fn arithmetic_broadcasts() {
    let sizes = [3, 4, 17];
    let n = 3 * 4 * 17;
    let (x, w) = (noise(n), noise(17));
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min] {
        for (strides, small) in [([0, 0, 1], 17), ([0, 1, 0], 4), ([0, 0, 0], 1)] {
            let w = &w[..small];
            for order in [[0, 1, 2], [2, 0, 1]] {
                let (a, y) = (dense(&sizes, &order), dense(&sizes, &[0, 1, 2]));
                let mut out = vec![f32::NAN; n];
                run_alone(&*binary(op, &sizes, &a, &strides, &y).unwrap(), &[&x, w], &mut [&mut out]).unwrap();
                let mut expected = vec![0.0; n];
                index(&sizes, &a, &mut |i, o| expected[i] = x[o]);
                index(&sizes, &strides, &mut |i, o| expected[i] = op.apply(expected[i], w[o]));
                assert_eq!(out, expected, "{op:?}");
                run_alone(&*binary(op, &sizes, &strides, &a, &y).unwrap(), &[w, &x], &mut [&mut out]).unwrap();
                index(&sizes, &strides, &mut |i, o| expected[i] = w[o]);
                index(&sizes, &a, &mut |i, o| expected[i] = op.apply(expected[i], x[o]));
                assert_eq!(out, expected, "{op:?}");
            }
        }
    }
}

#[test]
fn a_walk_goes_where_the_numbers_say() {
    for sizes in [vec![], vec![5], vec![3, 4], vec![2, 1, 3, 5]] {
        for order in [false, true] {
            let n: usize = sizes.iter().product();
            let mut axes: Vec<usize> = (0..sizes.len()).collect();
            if order {
                axes.reverse();
            }
            let (a, b) = (dense(&sizes, &axes), sizes.iter().scan(7, |s, n| Some((*s, *s *= n + 3).0)).collect::<Vec<_>>());
            let loops = super::Loops::new(&sizes, [&a, &b]);
            for start in 0..=n {
                for end in start..=n {
                    let walked: Vec<_> = loops.walk(start..end).collect();
                    assert_eq!(walked, (start..end).map(|i| loops.offsets(i)).collect::<Vec<_>>(), "{sizes:?} {start}..{end}");
                }
            }
        }
    }
}

#[test]
fn softmax_and_functions_of_one_value_along_any_axis() {
    let sizes = [2, 6, 33];
    let n = 2 * 6 * 33;
    let x = noise(n);
    for order in [[0, 1, 2], [0, 2, 1]] {
        let (a, y) = (dense(&sizes, &order), dense(&sizes, &[0, 1, 2]));
        let mut plain = vec![0.0; n];
        index(&sizes, &a, &mut |i, o| plain[i] = x[o]);
        let mut out = vec![f32::NAN; n];
        run_alone(&*unary(Activation::Swish { alpha: 1.0 }, &sizes, &a, &y).unwrap(), &[&x], &mut [&mut out]).unwrap();
        let mut expected = vec![0.0; n];
        Activation::Swish { alpha: 1.0 }.forward(&plain, &mut expected);
        assert_eq!(out, expected);
        for axis in 0..3 {
            run_alone(&*softmax(&sizes, axis, &a, &y).unwrap(), &[&x], &mut [&mut out]).unwrap();
            let stride = y[axis];
            for i in 0..n {
                let first = i - i / stride % sizes[axis] * stride;
                let line: Vec<f64> = (0..sizes[axis]).map(|k| f64::from(plain[first + k * stride]).exp()).collect();
                let exact = f64::from(plain[i]).exp() / line.iter().sum::<f64>();
                assert!((f64::from(out[i]) - exact).abs() < 1e-6, "axis {axis}: {} {exact}", out[i]);
            }
        }
    }
}

#[test]
fn expectations_are_sums_of_products_with_a_softmax() {
    for size in [1, 3, 15, 16, 17, 32, 50, 70] {
        let sizes = [2, size, 5];
        let x = noise(10 * size);
        let numbers: Vec<f32> = (0..size).map(|k| k as f32 - 3.5).collect();
        for order in [[0, 1, 2], [0, 2, 1]] {
            let (a, y) = (dense(&sizes, &order), dense(&[2, 1, 5], &order));
            let mut out = vec![f32::NAN; 10];
            run_alone(&*expectation(&sizes, 1, numbers.clone(), &a, &y).unwrap(), &[&x], &mut [&mut out]).unwrap();
            for (i, out) in out.iter().enumerate() {
                let parts: Vec<f64> = (0..size).map(|k| f64::from(x[i / 5 * a[0] + k * a[1] + i % 5 * a[2]]).exp()).collect();
                let sum: f64 = parts.iter().zip(&numbers).map(|(p, n)| p * f64::from(*n)).sum();
                let exact = sum / parts.iter().sum::<f64>();
                assert!((f64::from(*out) - exact).abs() < 1e-5 * (1.0 + exact.abs()), "{size} {order:?}: {out} {exact}");
            }
        }
    }
    assert!(expectation(&[2, 3], 1, vec![1.0; 2], &[3, 1], &[1, 1]).is_err());
    assert!(expectation(&[2, 3], 2, vec![1.0; 2], &[3, 1], &[1, 1]).is_err());
}
