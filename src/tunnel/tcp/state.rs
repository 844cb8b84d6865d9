//! Connection states and their transitions (RFC 9293, section 3.3.2). There is no LISTEN: a
//! connection is created when its SYN has arrived.

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

/// Causes of transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateEvent {
    /// The peer's SYN, without an acknowledgement of ours.
    Syn,
    /// Our SYN was acknowledged, and the peer's received.
    Synchronized,
    /// The user closed its half.
    Close,
    /// Our FIN was acknowledged.
    FinAcked,
    /// The peer's FIN, after everything before it.
    Fin,
    /// A RST in either direction, or a timeout.
    Abort,
}

impl State {
    /// The next state; events without a meaning in a state do not change it.
    pub(super) fn next(self, event: StateEvent) -> Self {
        match (event, self) {
            (StateEvent::Syn, Self::SynSent) => Self::SynReceived,
            (StateEvent::Synchronized, Self::SynSent | Self::SynReceived) => Self::Established,
            (StateEvent::Close, Self::Established) => Self::FinWait1,
            (StateEvent::Close, Self::CloseWait) => Self::LastAck,
            // No data was sent that a FIN would have to follow.
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

    pub(in crate::tunnel) fn is_handshaking(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived)
    }

    pub(super) fn may_send(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait)
    }

    /// Whether the peer may still send data.
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
    fn transitions_are_those_of_rfc_9293() {
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
        for (event, after) in table {
            assert_eq!(STATES.map(|state| state.next(event)), after, "{event:?}");
        }
    }
}
