//! The worker's side: requests in, replies out.

use super::protocol::{Failure, Hello, Reply, Request, read, write};
use super::{Carrier, Fault, Local, Order};
use candle_core::Device;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use compresso_exec::Outputs;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};

/// Answers requests until the input ends. `ended` is called when it does, on a thread of its own, so that it can end the
/// process amid a request that takes long.
///
/// # Errors
/// `Format` for input that is no request; those of writing.
pub(super) fn serve(input: impl Read + Send + 'static, mut output: impl Write, ended: impl FnOnce() + Send + 'static) -> Result<()> {
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        let mut input = input;
        loop {
            let Some(request) = read::<Request>(&mut input).transpose() else { break };
            let last = request.is_err();
            if sender.send(request).is_err() || last {
                break;
            }
        }
        drop(sender);
        ended();
    });
    write(&mut output, &Reply::Hello(Hello::ours()), [])?;
    let Ok(first) = requests.recv() else { return Ok(()) };
    let order = match first? {
        (Request::Open(order), _) => order,
        (other, _) => return Err(Error::format(format!("the first request must open a model, got {other:?}"))),
    };
    let ctx = match context(&order) {
        Ok(ctx) => ctx,
        Err(e) => return write(&mut output, &Reply::Failed(Failure::from(&e)), []),
    };
    match Local::open(&order, true, &ctx) {
        Ok(mut model) => {
            write(&mut output, &Reply::Opened(model.opened()), [])?;
            answer_all(&mut model, &requests, &mut output)
        }
        Err(e) => write(&mut output, &Reply::Failed(Failure::from(&e)), []),
    }
}

fn context(order: &Order) -> Result<Context> {
    memory::set_limit(order.memory);
    let mut ctx = Context::new().with_seed(order.seed);
    ctx.threads = order.threads;
    if let Some(gpu) = order.gpu {
        ctx.device = Device::new_cuda(gpu)?;
    }
    Ok(ctx)
}

fn answer_all(model: &mut Local<'_>, requests: &Receiver<Result<(Request, Outputs)>>, output: &mut impl Write) -> Result<()> {
    for request in requests {
        let (request, tensors) = request?;
        match answer(model, request, tensors) {
            Ok((reply, tensors)) => write(output, &reply, &tensors)?,
            Err(fault) => write(output, &Reply::Failed(Failure::from(&fault.error())), [])?,
        }
    }
    Ok(())
}

fn answer(model: &mut Local<'_>, request: Request, tensors: Outputs) -> Result<(Reply, Outputs), Fault> {
    let reply = match request {
        Request::Open(_) => return Err(Error::format("a worker opens one model").into()),
        Request::Step { runs } => Reply::Times(model.step(runs)?),
        Request::RunFor { seconds } => Reply::Ran(model.run_for(seconds)?),
        Request::Run => return Ok((Reply::Outputs, model.run(&tensors.into_iter().collect())?)),
        Request::Profile { runs } => Reply::Profile(model.profile(runs)?),
        Request::Peak => Reply::Peak(model.peak()?),
    };
    Ok((reply, Outputs::new()))
}
