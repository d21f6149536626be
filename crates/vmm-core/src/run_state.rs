//! The life of a virtual machine as a table of legal moves. Pure.
//!
//! ```text
//! Created ──Start──▶ Running ◀──Resume── Paused
//!    │                  │ ───Pause────▶    │
//!    ├──StartPaused────────────────────▶   │
//!    └───────Stop──▶ Stopped ◀──Stop───────┘   (and from Running)
//! ```

#![forbid(unsafe_code)]

use std::fmt;

use thiserror::Error;

/// Where a virtual machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RunState {
    /// Assembled; no vCPU has run.
    #[default]
    Created,
    /// vCPUs run.
    Running,
    /// No vCPU runs and no device touches guest memory; state can be saved.
    Paused,
    /// The end. Nothing runs again.
    Stopped,
}

/// A wish to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// Run for the first time.
    Start,
    /// Begin paused: how a restored machine starts, so that its state can be inspected before it runs.
    StartPaused,
    /// Stop the vCPUs and quiesce the devices. In `Paused` it changes nothing.
    Pause,
    /// Run again. In `Running` it changes nothing.
    Resume,
    /// End. In `Stopped` it changes nothing.
    Stop,
}

/// The move is not legal in that state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("cannot {wish} a virtual machine that is {from}")]
pub struct IllegalMove {
    /// The state it is in.
    pub from: RunState,
    /// What was asked.
    pub wish: Move,
}

impl RunState {
    /// All states.
    pub const ALL: [RunState; 4] =
        [RunState::Created, RunState::Running, RunState::Paused, RunState::Stopped];

    /// The state after `wish`. The same state means that there is nothing to do: pausing, resuming and
    /// stopping are idempotent, so that two callers may ask for the same thing.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`]; the state stays.
    pub fn after(self, wish: Move) -> Result<RunState, IllegalMove> {
        use RunState::*;
        match (self, wish) {
            (Created, Move::Start) => Ok(Running),
            (Created, Move::StartPaused) => Ok(Paused),
            (Running | Paused, Move::Pause) => Ok(Paused),
            (Running | Paused, Move::Resume) => Ok(Running),
            (_, Move::Stop) => Ok(Stopped),
            (Created | Stopped, Move::Pause | Move::Resume)
            | (Running | Paused | Stopped, Move::Start | Move::StartPaused) => {
                Err(IllegalMove { from: self, wish })
            }
        }
    }
}

impl Move {
    /// All moves.
    pub const ALL: [Move; 5] = [Move::Start, Move::StartPaused, Move::Pause, Move::Resume, Move::Stop];
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunState::Created => "created",
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::Stopped => "stopped",
        })
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Move::Start => "start",
            Move::StartPaused => "start paused",
            Move::Pause => "pause",
            Move::Resume => "resume",
            Move::Stop => "stop",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_matrix() {
        use RunState::*;
        // rows: Start, StartPaused, Pause, Resume, Stop
        let table: [(RunState, [Option<RunState>; 5]); 4] = [
            (Created, [Some(Running), Some(Paused), None, None, Some(Stopped)]),
            (Running, [None, None, Some(Paused), Some(Running), Some(Stopped)]),
            (Paused, [None, None, Some(Paused), Some(Running), Some(Stopped)]),
            (Stopped, [None, None, None, None, Some(Stopped)]),
        ];
        for (from, row) in table {
            for (wish, to) in Move::ALL.into_iter().zip(row) {
                assert_eq!(from.after(wish), to.ok_or(IllegalMove { from, wish }), "{wish} from {from}");
            }
        }
    }

    #[test]
    fn the_error_names_both() {
        let err = RunState::Stopped.after(Move::Resume).unwrap_err();
        assert_eq!(err.to_string(), "cannot resume a virtual machine that is stopped");
    }

    proptest! {
        #[test]
        fn stopped_is_the_end_and_created_never_returns(moves in prop::collection::vec(0usize..5, 0..40)) {
            let mut state = RunState::Created;
            let mut left_created = false;
            for wish in moves.into_iter().map(|i| Move::ALL[i]) {
                let before = state;
                state = state.after(wish).unwrap_or(state);
                left_created |= state != RunState::Created;
                prop_assert!(before != RunState::Stopped || state == RunState::Stopped);
                prop_assert!(!left_created || state != RunState::Created);
                // A repeated move is idempotent, or refused without effect.
                prop_assert_eq!(state.after(wish).unwrap_or(state), state);
            }
        }
    }
}
