//! The states of a connection, and what moves it from one to another (RFC 9293, section 3.3.2).
//! LISTEN is no state here: a connection is made when its SYN has come.

/// A connection's state, by its name in RFC 9293.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tunnel) enum State {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

/// What moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateEvent {
    /// The other end's SYN came, without an acknowledgement of ours.
    Syn,
    /// Our SYN is acknowledged, and the other end's has come.
    Synchronized,
    /// The user has nothing more to say.
    Close,
    /// Our FIN is acknowledged.
    FinAcked,
    /// The other end's FIN has come, and all before it.
    Fin,
    /// A reset, either way, or nobody waits any longer.
    Abort,
}

impl State {
    /// The next state. Total: what has no meaning in a state changes nothing.
    pub(super) fn next(self, input: StateEvent) -> Self {
        match (input, self) {
            (StateEvent::Syn, Self::SynSent) => Self::SynReceived,
            (StateEvent::Synchronized, Self::SynSent | Self::SynReceived) => Self::Established,
            (StateEvent::Close, Self::Established) => Self::FinWait1,
            (StateEvent::Close, Self::CloseWait) => Self::LastAck,
            // Nothing was sent that would have to be ended in good order.
            (StateEvent::Close, Self::SynSent) => Self::Closed,
            (StateEvent::FinAcked, Self::FinWait1) => Self::FinWait2,
            (StateEvent::FinAcked, Self::Closing) => Self::TimeWait,
            (StateEvent::FinAcked, Self::LastAck) => Self::Closed,
            (StateEvent::Fin, Self::Established) => Self::CloseWait,
            (StateEvent::Fin, Self::FinWait1) => Self::Closing,
            (StateEvent::Fin, Self::FinWait2) => Self::TimeWait,
            (StateEvent::Abort, _) => Self::Closed,
            (
                StateEvent::Syn
                | StateEvent::Synchronized
                | StateEvent::Close
                | StateEvent::FinAcked
                | StateEvent::Fin,
                state,
            ) => state,
        }
    }

    /// The handshake is not over.
    pub(in crate::tunnel) fn is_handshaking(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived)
    }

    /// The user may still say something.
    pub(super) fn may_send(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait)
    }

    /// Data of the other end is still to be expected.
    pub(super) fn may_receive(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::*;

    const STATES: [State; 10] = [
        SynSent,
        SynReceived,
        Established,
        FinWait1,
        FinWait2,
        CloseWait,
        Closing,
        LastAck,
        TimeWait,
        Closed,
    ];

    /// RFC 9293, figure 5, row by row: the states in the order of `STATES`.
    #[test]
    fn the_table() {
        let table = [
            (
                StateEvent::Syn,
                [
                    SynReceived,
                    SynReceived,
                    Established,
                    FinWait1,
                    FinWait2,
                    CloseWait,
                    Closing,
                    LastAck,
                    TimeWait,
                    Closed,
                ],
            ),
            (
                StateEvent::Synchronized,
                [
                    Established,
                    Established,
                    Established,
                    FinWait1,
                    FinWait2,
                    CloseWait,
                    Closing,
                    LastAck,
                    TimeWait,
                    Closed,
                ],
            ),
            (
                StateEvent::Close,
                [
                    Closed,
                    SynReceived,
                    FinWait1,
                    FinWait1,
                    FinWait2,
                    LastAck,
                    Closing,
                    LastAck,
                    TimeWait,
                    Closed,
                ],
            ),
            (
                StateEvent::FinAcked,
                [
                    SynSent,
                    SynReceived,
                    Established,
                    FinWait2,
                    FinWait2,
                    CloseWait,
                    TimeWait,
                    Closed,
                    TimeWait,
                    Closed,
                ],
            ),
            (
                StateEvent::Fin,
                [
                    SynSent,
                    SynReceived,
                    CloseWait,
                    Closing,
                    TimeWait,
                    CloseWait,
                    Closing,
                    LastAck,
                    TimeWait,
                    Closed,
                ],
            ),
            (StateEvent::Abort, [Closed; 10]),
        ];
        for (input, after) in table {
            assert_eq!(STATES.map(|state| state.next(input)), after, "{input:?}");
        }
    }
}
