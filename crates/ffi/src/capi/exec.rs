//! What runs in the guest, and its surroundings.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::guard::{Failure, done};
use super::pointers::{CText, CTextList};
use super::table;

/// Program, arguments behind argument 0, and environment (NULL: this process's).
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_exec(ctx_id: u32, exec_path: CText, argv: CTextList, envp: CTextList) -> i32 {
    done(|| {
        let program = exec_path.required("exec_path")?;
        let args = argv.optional("argv")?.unwrap_or_default();
        let env = environment(envp)?;
        table::update(ctx_id, |context| {
            context.exec.program = Some(program);
            context.exec.args = args;
            context.exec.env = env;
        })
    })
}

/// Environment alone.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_env(ctx_id: u32, envp: CTextList) -> i32 {
    done(|| {
        let env = environment(envp)?;
        table::update(ctx_id, |context| context.exec.env = env)
    })
}

/// Working directory in the guest.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_workdir(ctx_id: u32, workdir_path: CText) -> i32 {
    done(|| {
        let workdir = workdir_path.required("workdir_path")?;
        table::update(ctx_id, |context| context.exec.workdir = Some(workdir))
    })
}

/// Resource limits in the guest. The guest's init reads them, so their syntax is its matter.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_rlimits(ctx_id: u32, rlimits: CTextList) -> i32 {
    done(|| {
        let rlimits = rlimits.required("rlimits")?;
        table::update(ctx_id, |context| context.exec.rlimits = rlimits)
    })
}

/// The list, or a snapshot of this process's environment, whatever bytes it has.
fn environment(envp: CTextList) -> Result<Vec<OsString>, Failure> {
    Ok(match envp.optional("envp")? {
        Some(list) => list.into_iter().map(OsString::from).collect(),
        None => inherited(std::env::vars_os()),
    })
}

fn inherited(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<OsString> {
    // A name that begins with `=`, which a shell cannot set, is not one a guest takes.
    let named = variables.filter(|(name, _)| !matches!(name.as_bytes().first(), None | Some(b'=')));
    named
        .map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            entry
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn inherited_variables_keep_their_bytes() {
        let odd = OsString::from_vec(b"a\xff\nb".to_vec());
        let variables = [
            ("A".into(), "b c".into()),
            ("=C:".into(), "x".into()),
            ("ODD".into(), odd),
            ("E".into(), "".into()),
        ];
        let expected = [b"A=b c".to_vec(), b"ODD=a\xff\nb".to_vec(), b"E=".to_vec()];
        assert_eq!(inherited(variables.into_iter()), expected.map(OsString::from_vec));
    }
}
