//! The guest's PID 1.

use super::guard::done;
use super::pointers::COut;
use super::table;

/// Roots added from here on do not get this library's init.
#[unsafe(no_mangle)]
pub extern "C" fn krun_disable_implicit_init(ctx_id: u32) -> i32 {
    done(|| table::update(ctx_id, |context| context.implicit_init = false))
}

/// The bytes of this library's init, a static program. They stay as long as the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn krun_get_default_init(data_out: COut<*const u8>, len_out: COut<usize>) -> i32 {
    done(|| {
        data_out.check("data_out")?;
        len_out.check("len_out")?;
        let binary = purlin_init::binary();
        data_out.store(binary.as_ptr());
        len_out.store(binary.len());
        Ok(())
    })
}
