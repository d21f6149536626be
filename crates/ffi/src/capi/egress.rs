//! The policy on what leaves through the vsock device.

use purlin_egress::Policy;
use purlin_tsi::shell::EgressHandle;

use super::guard::{Failure, call, done};
use super::pointers::{CBuffer, CInOut, CText};
use super::{running, table};

/// No line of the log is shorter: its fixed parts alone are longer.
const SHORTEST_LINE: usize = 80;

/// The policy a machine starts with.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_egress_policy(ctx_id: u32, policy_json: CText) -> i32 {
    done(|| {
        let policy = parse(policy_json)?;
        table::update(ctx_id, |context| context.vsock.egress = policy)
    })
}

/// Another policy for a machine that runs.
#[unsafe(no_mangle)]
pub extern "C" fn krun_update_egress_policy(ctx_id: u32, policy_json: CText) -> i32 {
    done(|| {
        let policy = parse(policy_json)?;
        with_egress(ctx_id, |egress| egress.replace(policy))
    })
}

/// What the policy of a running machine decided.
#[unsafe(no_mangle)]
pub extern "C" fn krun_read_egress_log(ctx_id: u32, next: CInOut<u64>, buffer: CBuffer, size: usize) -> i32 {
    call(|| {
        let mut number = next.load("next")?;
        let mut text = buffer.writer("buffer", size)?;
        let most = size / SHORTEST_LINE + 1;
        let entries = with_egress(ctx_id, |egress| egress.log(number, most))?;
        for entry in entries {
            let line = entry.to_json() + "\n";
            if !text.write(line.as_bytes()) {
                if text.written() == 0 {
                    let text = format!("size: {size}, the next line needs {}", line.len());
                    return Err(Failure::new(libc::ENOSPC, text));
                }
                break;
            }
            number = entry.sequence.saturating_add(1);
        }
        next.store(number);
        Ok(text.written())
    })
}

fn parse(policy_json: CText) -> Result<Policy, Failure> {
    let json = policy_json.required("policy_json")?;
    Policy::from_json(json.as_bytes()).map_err(|e| Failure::invalid(format!("policy_json: {e}")))
}

fn with_egress<T>(ctx_id: u32, use_it: impl FnOnce(&EgressHandle) -> T) -> Result<T, Failure> {
    let vm = running::find(ctx_id)?;
    let egress = vm.egress().ok_or_else(|| Failure::new(libc::ENODEV, "the machine has no vsock device"))?;
    Ok(use_it(egress))
}
