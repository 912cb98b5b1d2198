//! Callers that lie are refused before anything is read or written.

use super::conv::{Algorithm, conv_with};
use super::int8::{self, AveragePool, Bytes, ChannelMap, Channels, Factors, Found, Int8Add, Int8Conv, Store};
use super::program::{Buffer, Program, Slot, Step};
use super::strided::{self, AttentionSpec, Binary, NormSpec, Reduce};
use super::*;
use crate::activation::Activation;
use crate::level::Level;
use crate::window::Window2;
use compresso_base::error::{ErrorKind, Result};
use proptest::prelude::*;
use std::collections::HashSet;

const GUARD: f32 = -1e30;

/// Sizes and strides, from usual ones to those that overflow.
fn number() -> impl Strategy<Value = usize> {
    prop_oneof![
        12 => 0usize..5,
        2 => 5usize..40,
        1 => prop_oneof![Just(1usize << 20), Just(1 << 31), Just((1 << 31) + 1), Just(1 << 32), Just(1 << 44), Just(1 << 62), Just((1 << 63) - 1)],
        1 => prop_oneof![Just(usize::MAX), Just(usize::MAX / 2), Just(usize::MAX / 3 + 1), Just(usize::MAX - 1)],
    ]
}

fn pair() -> impl Strategy<Value = [usize; 2]> {
    [number(), number()]
}

fn view() -> impl Strategy<Value = View> {
    let free = [number(), number(), number(), number(), number(), number()];
    let usual = ([1usize..6, 1usize..6, 1usize..20], number(), any::<bool>());
    prop_oneof![
        1 => free.prop_map(|[height, width, channels, row, pixel, channel]| View { height, width, channels, row, pixel, channel }),
        2 => usual.prop_map(|([height, width, channels], gap, planes)| match planes {
            true => View::planes(height, width, channels),
            false => {
                let pixel = channels.saturating_add(gap);
                View { height, width, channels, row: pixel.saturating_mul(width), pixel, channel: 1 }
            }
        }),
    ]
}

prop_compose! {
    fn window()(input in pair(), kernel in pair(), stride in pair(), dilation in pair(), pad in pair(), output in pair()) -> Window2 {
        Window2 { input, kernel, stride, dilation, pad, output }
    }
}

/// A window over one view that makes another, or any.
fn windows() -> impl Strategy<Value = (Window2, View, View)> {
    (window(), view(), view(), any::<[bool; 3]>()).prop_map(|(w, x, y, [over, makes, usual])| {
        let (mut w, x, mut y) = (w, x, y);
        if usual {
            (w.kernel, w.stride, w.dilation) = (w.kernel.map(|n| n % 4 + 1), w.stride.map(|n| n % 3 + 1), w.dilation.map(|n| n % 2 + 1));
            y.channels = x.channels;
        }
        // Larger kernels that are not refused take long.
        w.kernel = w.kernel.map(|n| if n <= 1 << 31 { n.min(64) } else { n });
        if over {
            w.input = [x.height, x.width];
        }
        if makes {
            w.output = [y.height, y.width];
        }
        (w, x, y)
    })
}

/// Elements that a test allocates.
const ROOM: usize = 1 << 14;

/// Runs a job, if there is one and it is small, on slices that end where its operands do, and demands that slices one
/// element shorter are refused and left alone. True when it ran.
fn exact<I: Scalar + Default, O: Scalar + Default + PartialEq + std::fmt::Debug>(job: Result<Box<dyn Job>>) -> bool {
    let Ok(job) = job else { return false };
    let operands = job.operands();
    let small = |all: &[Operand]| all.iter().all(|o| o.reach() <= ROOM);
    if !small(operands.inputs()) || !small(operands.outputs()) || job.scratch() > 1 << 24 || job.parts() > 1 << 12 {
        return false;
    }
    let inputs: Vec<Vec<I>> = operands.inputs().iter().map(|o| vec![I::default(); o.reach()]).collect();
    let mut outputs: Vec<Vec<O>> = operands.outputs().iter().map(|o| vec![O::default(); o.reach()]).collect();
    let all: Vec<&[I]> = inputs.iter().map(Vec::as_slice).collect();
    for (i, input) in inputs.iter().enumerate().filter(|(_, v)| !v.is_empty() && !operands.is_empty()) {
        let mut short = all.clone();
        short[i] = &input[1..];
        let mut to: Vec<&mut [O]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let error = run_alone(&*job, &short, &mut to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
    }
    for i in (0..outputs.len()).filter(|&i| !operands.outputs()[i..].is_empty() && operands.outputs()[i].reach() > 0) {
        let mut to: Vec<&mut [O]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let taken = std::mem::take(&mut to[i]);
        to[i] = &mut taken[1..];
        assert!(run_alone(&*job, &all, &mut to).is_err());
    }
    assert!(outputs.iter().flatten().all(|v| *v == O::default()), "{} wrote before it refused", job.name());
    let mut to: Vec<&mut [O]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    run_alone(&*job, &all, &mut to).unwrap();
    assert!(run_alone(&*job, &all, &mut to[..0]).is_err() && run_alone(&*job, &[] as &[&[I]], &mut to).is_err());
    true
}

/// Finds a scale, unless that is refused, from an input that ends where the job says.
fn scaled(found: &Found) {
    let Ok(job) = int8::scale(std::slice::from_ref(found)) else { return };
    let reach = job.operands().inputs()[0].reach();
    if reach > ROOM || found.images * found.parts > ROOM {
        return;
    }
    let (input, mut step, mut zero) = (vec![1.0f32; reach], 0.0f32, 1u8);
    // SAFETY: the input is as long as the job says, the outputs have one element each.
    unsafe {
        job.run(0, Args { inputs: &[input.as_ptr().cast()], outputs: &[(&raw mut step).cast(), &raw mut zero] }, std::ptr::null_mut())
    };
    assert_eq!((step, zero), (1.0 / 255.0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn windows_of_any_numbers_are_refused_or_run((w, x, y) in windows(), groups in number(), weights in 0usize..600, act in any::<bool>(), residual in view(), threads in number()) {
        let act = act.then_some(Activation::Relu);
        for residual in [None, Some(residual), Some(y)] {
            let epilogue = Epilogue { act, residual: residual.is_some(), then: None };
            let spec = ConvSpec { window: w, groups, input: x, output: y, residual, epilogue };
            let per_group = x.channels.checked_div(groups).unwrap_or(0);
            let fitting = [y.channels, per_group, w.kernel[0], w.kernel[1]].iter().fold(1, |p: usize, n| p.saturating_mul(*n));
            let weights = vec![0.25; if fitting < ROOM { fitting } else { weights }];
            use Algorithm::{Auto, Depthwise, Direct, Packed, Runs, Winograd};
            for algorithm in [Auto, Direct, Packed, Winograd, Depthwise, Runs] {
                exact::<f32, f32>(conv_with(Level::best(), algorithm, &spec, &weights, None, threads));
            }
        }
        exact::<f32, f32>(pool::max_pool(&w, x, y));
        exact::<f32, f32>(pool::average_pool(&w, x, y, groups.is_multiple_of(2), w.pad));
        exact::<u8, u8>(int8::max_pool(w, x, y, threads));
        for store in [Store::Floats { output: y }, Store::Bytes { inverse_scale: 2.0, zero: 3, outputs: vec![Bytes::whole(y)] }] {
            let table = act.map(|_| Box::new([1.5; 256]));
            let spec = AveragePool { window: w, input: x, input_zero: 1, scale: 0.5, table, padded: Some(w.pad), store: store.clone(), threads };
            match store {
                Store::Floats { .. } => exact::<u8, f32>(int8::average_pool(&spec)),
                Store::Bytes { .. } => exact::<u8, u8>(int8::average_pool(&spec)),
            };
            let outs = y.channels.min(ROOM);
            let per_group = x.channels.checked_div(groups).unwrap_or(0);
            let fitting = [outs, per_group, w.kernel[0], w.kernel[1]].iter().fold(1, |p: usize, n| p.saturating_mul(*n));
            let spec = Int8Conv { window: w, groups, input: x, input_zero: Some(1), scales: vec![0.1; outs], bias: vec![0.0; outs], act, store: store.clone(), ranges: false, threads };
            let job = int8::conv(&spec, &vec![1i8; if fitting < ROOM { fitting } else { weights }]);
            match store {
                Store::Floats { .. } => exact::<u8, f32>(job),
                Store::Bytes { .. } => exact::<u8, u8>(job),
            };
            if let Store::Floats { .. } = spec.store {
                exact::<u8, f32>(int8::conv(&Int8Conv { ranges: true, ..spec }, &vec![1i8; if fitting < ROOM { fitting } else { weights }]));
            }
        }
    }

    #[test]
    fn views_of_any_numbers_are_refused_or_run(a in view(), b in view(), y in view(), same in any::<[bool; 2]>(), scale in pair(), first in number(), threads in number()) {
        let size = |v: View, like: View, same: bool| if same { View { height: like.height, width: like.width, channels: like.channels, ..v } } else { v };
        let (b, y) = (size(b, a, same[0]), size(y, a, same[1]));
        exact::<f32, f32>(map::copy(a, y));
        exact::<f32, f32>(map::add(a, b, y, Some(Activation::Relu)));
        exact::<f32, f32>(resize::nearest(scale, a, y));
        exact::<u8, u8>(int8::resize_nearest(scale, a, y, threads));
        exact::<u8, u8>(int8::copy(a, y, threads));
        let part = vec![Bytes { view: y, first, table: Some(Box::new([7; 256])) }, Bytes::whole(b)];
        exact::<f32, u8>(int8::quantize(2.0, 1, a, part.clone(), threads));
        exact::<u8, u8>(int8::table(a, part.clone(), threads));
        exact::<u8, f32>(int8::dequantize(Box::new([1.5; 256]), a, y, threads));
        exact::<u8, u8>(int8::binary(Box::new([1; 65536]), a, b, y, threads));
        exact::<u8, f32>(int8::sum(vec![Box::new([1.5; 256]); 2], vec![a, b], None, Some(Activation::HardSwish), &Store::Floats { output: y }, threads));
        let store = Store::Bytes { inverse_scale: 2.0, zero: 1, outputs: vec![Bytes::whole(y)] };
        let channels = a.channels.saturating_add(b.channels);
        let constants = vec![0.5; if channels < ROOM { channels } else { first % ROOM }];
        let by = Factors::Constants { scale: constants.clone(), shift: constants };
        let bytes = |view| Channels { view, table: Some(Box::new([1.5; 256])) };
        let act = Some(Activation::HardSwish);
        exact::<u8, u8>(int8::channel_map(ChannelMap { images: vec![bytes(a), bytes(b)], by, act, store: store.clone(), threads }));
        let by = Factors::Read(View { height: 1, width: 1, row: 1, pixel: 1, ..b });
        let floats = Store::Floats { output: y };
        exact::<f32, f32>(int8::channel_map(ChannelMap { images: vec![Channels { view: a, table: None }], by, act, store: floats, threads }));
        exact::<u8, u8>(int8::add(&Int8Add { inputs: [a, b], scales: [0.1; 2], zeros: [1; 2], act: Some(Activation::Relu), store, threads }));
    }

    #[test]
    fn strides_of_any_numbers_are_refused_or_run(
        sizes in prop::collection::vec(number(), 0..4), strides in prop::collection::vec(prop::collection::vec(number(), 0..5), 3), axis in 0usize..5,
    ) {
        let [a, b, y] = [&strides[0], &strides[1], &strides[2]];
        // Rising strides, so that some are of a tensor.
        let mut dense = vec![0; sizes.len()];
        sizes.iter().zip(&mut dense).rev().fold(1usize, |step, (n, s)| { *s = step; step.saturating_mul((*n).max(1)) });
        let fitted = |s: &[usize]| (0..sizes.len()).map(|d| s.get(d).copied().unwrap_or(1)).collect::<Vec<_>>();
        for (a, b, y) in [(a.clone(), b.clone(), y.clone()), (fitted(a), fitted(b), dense.clone()), (dense.clone(), dense.clone(), fitted(y))] {
            exact::<f32, f32>(strided::copy(Element::F32, &sizes, &a, &y));
            exact::<u8, u8>(strided::copy(Element::U8, &sizes, &a, &y));
            exact::<f32, f32>(strided::binary(Binary::Add, &sizes, &a, &b, &y));
            exact::<f32, f32>(strided::unary(Activation::Tanh, &sizes, &a, &y));
            exact::<f32, f32>(strided::softmax(&sizes, axis, &a, &y));
            exact::<f32, f32>(strided::expectation(&sizes, axis, vec![1.0; sizes.get(axis).copied().unwrap_or(0).min(1 << 10)], &a, &y));
            exact::<f32, f32>(int8::ranges(&sizes, &a, 3));
            if let ([images, parts, channels], [x, y, z]) = (&sizes[..], &a[..]) {
                scaled(&Found { images: *images, parts: *parts, channels: *channels, strides: [*x, *y, *z] });
            }
            let n = sizes.len().saturating_sub(2);
            if let [rows, columns] = sizes[n..] {
                exact::<f32, f32>(strided::matmul(&sizes[..n], [rows, axis, columns], &a, &b, &y, 3));
                let changes = [(Binary::Add, a.clone())];
                let (q, k, v, y) = (&a[..], &b[..], &b[..], &y[..]);
                let spec = AttentionSpec { leading: &sizes[..n], rows, depth: axis, keys: 3, columns, q, k, v, y, scale: 0.5, changes: &changes };
                exact::<f32, f32>(strided::attention(&spec, 3));
            }
            let spec = NormSpec { epsilon: 0.1, centred: true, scale: None, bias: None };
            exact::<f32, f32>(strided::norm(&sizes, axis, &a, &y, &spec));
            let gone: Vec<bool> = (0..sizes.len()).map(|d| d != axis).collect();
            // Elements that are read again and again make no operand larger, but take their time.
            if sizes.iter().fold(1, |p: usize, n| p.saturating_mul(*n)) <= ROOM {
                exact::<f32, f32>(strided::reduce(Reduce::Mean, &sizes, &gone, &a, &y));
            }
        }
    }
}

#[test]
fn jobs_that_fit_run() {
    let (x, y) = (View::dense(6, 7, 20), View::dense(4, 5, 24));
    let window = Window2 { input: [6, 7], kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [0, 0], output: [4, 5] };
    let spec = ConvSpec { window, groups: 1, input: x, output: y, residual: None, epilogue: Epilogue::default() };
    let weights = vec![0.5; 24 * 20 * 9];
    for algorithm in [Algorithm::Auto, Algorithm::Direct, Algorithm::Winograd] {
        assert!(exact::<f32, f32>(conv_with(Level::best(), algorithm, &spec, &weights, None, 2)));
    }
    assert!(exact::<f32, f32>(pool::max_pool(&window, x, View { channels: 20, ..y })));
    let store = Store::Floats { output: y };
    let scales = vec![0.1; 24];
    let spec = Int8Conv {
        window,
        groups: 1,
        input: x,
        input_zero: Some(1),
        scales: scales.clone(),
        bias: scales,
        act: None,
        store,
        ranges: false,
        threads: 2,
    };
    assert!(exact::<u8, f32>(int8::conv(&spec, &vec![3; 24 * 20 * 9])));
    assert!(exact::<f32, f32>(strided::matmul(&[2], [3, 4, 5], &[12, 4, 1], &[20, 5, 1], &[15, 5, 1], 2)));
}

#[test]
fn slices_of_another_type_and_instructions_that_are_not_there_are_refused() {
    let view = View::dense(2, 2, 3);
    let job = map::copy(view, view).unwrap();
    let error = run_alone(&*job, &[&[0u8; 12][..]], &mut [&mut [GUARD; 12][..]]).unwrap_err();
    assert!(error.to_string().contains("expected slices of F32, got U8"), "{error}");
    if Level::best() != Level::Avx512 {
        assert_eq!(Level::Avx512.check().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

/// One byte of memory, by buffer and offset.
type Byte = (Buffer, usize);

/// The bytes of an operand of a step, image by image: the definition of what is checked by strides.
fn bytes(slot: &Slot, images: usize, sizes: &[usize], strides: &[usize], element: usize) -> Vec<Byte> {
    let count: usize = sizes.iter().product();
    let mut all = Vec::new();
    for image in 0..images {
        for index in 0..count {
            let (mut left, mut at) = (index, 0);
            for (n, s) in sizes.iter().zip(strides).rev() {
                at += left % n * s;
                left /= n;
            }
            all.extend((0..element).map(|b| (slot.buffer, slot.offset + image * slot.image + at * element + b)));
        }
    }
    all
}

const ARENA: usize = 256;
const GIVEN: usize = 128;

fn slot() -> impl Strategy<Value = Slot> {
    let buffer =
        prop_oneof![5 => Just(Buffer::Arena), 1 => Just(Buffer::Constants), 1 => Just(Buffer::Input(0)), 1 => Just(Buffer::Input(1))];
    let offset = prop_oneof![6 => (0usize..40).prop_map(|n| 4 * n), 2 => 0usize..260, 1 => number()];
    let image = prop_oneof![6 => (0usize..20).prop_map(|n| 4 * n), 1 => 0usize..40, 1 => number()];
    let reach = prop_oneof![6 => Just(200usize), 1 => 0usize..100];
    (buffer, offset, image, reach).prop_map(|(buffer, offset, image, reach)| Slot { buffer, offset, image, reach })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, max_global_rejects: 60_000, ..ProptestConfig::default() })]

    #[test]
    fn steps_that_are_accepted_touch_bytes_of_their_own(
        sizes in [1usize..4, 1usize..4, 1usize..4], strides in [[0usize..13, 0usize..7, 1usize..4], [0usize..13, 0usize..7, 1usize..4]],
        slots in [slot(), slot()], images in 0usize..4, in_place in any::<bool>(), wide in any::<bool>(),
    ) {
        let element = if wide { 4 } else { 1 };
        let view = |[row, pixel, channel]: [usize; 3]| View { height: sizes[0], width: sizes[1], channels: sizes[2], row, pixel, channel };
        let strides = if in_place { [strides[1]; 2] } else { strides };
        let slots = if in_place { [slots[1]; 2] } else { slots };
        // Jobs on floats of which the output may be the input, and jobs on bytes of which it may not.
        let job = match wide {
            true => map::copy(view(strides[0]), view(strides[1])),
            false => strided::copy(Element::U8, &sizes, &strides[0], &strides[1]),
        };
        let Ok(job) = job else { return Ok(()) };
        let mut program = Program::new(ARENA, &[1; 64], vec![GIVEN, 3], 1).unwrap();
        let (arena, given) = (program.arena_bytes(), [0.5f32; GIVEN / 4]);
        let given = program::as_bytes(&given);
        let step = Step { job, images, inputs: vec![slots[0]], outputs: vec![slots[1]] };
        let Ok(number) = program.push(step) else { return Ok(()) };
        let (reads, writes) = (bytes(&slots[0], images, &sizes, &strides[0], element), bytes(&slots[1], images, &sizes, &strides[1], element));
        for (buffer, at) in reads.iter().chain(&writes) {
            let size = match buffer {
                Buffer::Arena => arena,
                Buffer::Constants => 64,
                Buffer::Input(0) => GIVEN,
                Buffer::Input(_) => 3,
            };
            prop_assert!(*at < size);
        }
        if images > 0 {
            prop_assert!(slots.iter().all(|s| s.offset.is_multiple_of(element) && (images == 1 || s.image.is_multiple_of(element))));
        }
        let written: HashSet<Byte> = writes.iter().copied().collect();
        prop_assert!(written.iter().all(|(buffer, _)| *buffer == Buffer::Arena));
        prop_assert_eq!(written.len(), writes.len(), "elements of the output are apart");
        let same = wide && reads == writes;
        prop_assert!(same || reads.iter().all(|b| !written.contains(b)), "the output lies across the input");
        program.run(number, &[given, &given[..3]]).unwrap();
    }
}

fn copy_step(channels: usize, pitch: usize, from: usize, to: usize) -> Step {
    let view = View { height: 3, width: 4, channels, row: 4 * pitch, pixel: pitch, channel: 1 };
    let slot = |at: usize| Slot { buffer: Buffer::Arena, offset: 4 * at, image: 12 * pitch * 4, reach: 4 * view.reach() };
    Step { job: map::copy(view, view).unwrap(), images: 2, inputs: vec![slot(from)], outputs: vec![slot(to)] }
}

#[test]
fn channels_of_one_tensor_may_interleave() {
    let mut program = Program::new(4 * 2 * 12 * 10, &[], Vec::new(), 2).unwrap();
    // Channels 0 to 3 into 4 to 7, and into themselves.
    assert_eq!(program.push(copy_step(4, 10, 0, 4)).unwrap(), 0);
    assert_eq!(program.push(copy_step(4, 10, 0, 0)).unwrap(), 1);
    let error = program.push(copy_step(4, 10, 0, 3)).unwrap_err();
    assert!(error.to_string().contains("output 0 lies across input 0"), "{error}");
    let error = program.push(copy_step(4, 10, 0, 7)).unwrap_err();
    assert!(error.to_string().contains("do not lie in a memory of"), "{error}");
    assert_eq!(program.steps().len(), 2);
}

#[test]
fn programs_refuse_inputs_that_are_short_or_not_aligned() {
    let view = View::dense(2, 2, 4);
    let job = map::copy(view, view).unwrap();
    let slot = |buffer: Buffer| Slot { buffer, offset: 0, image: 0, reach: 64 };
    let mut program = Program::new(64, &[], vec![64, 8], 1).unwrap();
    let step = Step { job, images: 1, inputs: vec![slot(Buffer::Input(0))], outputs: vec![slot(Buffer::Arena)] };
    let number = program.push(step).unwrap();
    let floats = [1.5f32; 20];
    let bytes = program::as_bytes(&floats);
    assert!(program.run(number, &[&bytes[1..65], &bytes[..8]]).is_err(), "an odd address");
    assert!(program.run(number, &[&bytes[..63], &bytes[..8]]).is_err(), "too short");
    assert!(program.run(number, &[&bytes[..64]]).is_err(), "too few");
    assert!(program.run(number + 1, &[&bytes[..64], &bytes[..8]]).is_err(), "no such step");
    program.run(number, &[&bytes[..64], &bytes[1..9]]).unwrap();
    assert_eq!(program.read(&slot(Buffer::Arena), 1, &[]).unwrap(), &bytes[..64]);
    assert!(program.read(&slot(Buffer::Input(3)), 1, &[]).is_err());
    assert!(program.read(&Slot { image: usize::MAX, ..slot(Buffer::Arena) }, 3, &[]).is_err());
    assert!(program.write(&slot(Buffer::Constants), 1).is_err());
    assert!(Program::new(usize::MAX, &[], Vec::new(), 1).is_err());
}
