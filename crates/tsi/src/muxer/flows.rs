//! Flows that were let out, for a policy that changes its mind.

use std::net::SocketAddr;

use super::{Body, Flushing, Muxer};
use crate::dgram::{Dgram, Route};
use crate::io::{Flow, FlowId, FlowPart, OpenFlow, Protocol, SocketId};
use crate::slots::Id;
use crate::stream::{Phase, Stream};
use crate::wire::errno;

impl Muxer {
    /// Verdicts given so far are not used again. To be followed by [`Muxer::close_flow`] for every one of
    /// [`Muxer::open_flows`] that the new policy does not let out, or not to the same place.
    pub fn policy_changed(&mut self) {
        self.policy_generation = self.policy_generation.wrapping_add(1);
    }

    /// Everything that was asked about, let out, and is still open.
    pub fn open_flows(&self) -> Vec<OpenFlow> {
        let mut flows = Vec::new();
        if !self.config.ask_policy {
            return flows;
        }
        for (id, record) in self.records.iter() {
            match &record.body {
                Body::Stream(stream) => flows.extend(stream_flow(id, stream)),
                Body::Dgram(dgram) => dgram_flows(id, dgram, &mut flows),
                Body::Listener(_) => {}
            }
        }
        flows.extend(self.flushing.iter().filter_map(|(&socket, rest)| rest_flow(socket, rest)));
        flows
    }

    /// Ends a flow: a connection is reset, also one that only gets rid of its last bytes, a connect is refused, datagrams are not sent any more. No effect
    /// on one that has ended.
    pub fn close_flow(&mut self, id: FlowId) {
        let record = id.record;
        match id.part {
            FlowPart::Stream => self.close_stream_flow(record),
            // The guest has closed it already.
            FlowPart::Rest(socket) => self.close(socket, true),
            FlowPart::Peer => {
                let Some(dgram) = self.dgram_mut(record) else { return };
                if matches!(dgram.peer, Route::Direct(_)) {
                    dgram.peer = Route::None;
                    // Its kernel would still let the peer's datagrams through.
                    self.close_common_socket(record);
                }
            }
            FlowPart::Destination(original) => {
                let Some(dgram) = self.dgram_mut(record) else { return };
                dgram.lose_contact(original);
                if let Some(socket) = dgram.find(original).map(|r| r.socket) {
                    dgram.forget(socket);
                    self.close(socket, false);
                }
            }
        }
    }

    fn close_stream_flow(&mut self, id: Id) {
        let Some(stream) = self.stream_mut(id) else { return };
        if stream.judged.take().is_none() {
            return;
        }
        match &stream.phase {
            Phase::Connecting(_) => self.give_up_connect(id, errno::ECONNREFUSED),
            Phase::AwaitRequest | Phase::Open => self.host_broken(id),
            Phase::Created | Phase::Handshake(_) | Phase::Dead => {}
        }
    }

    fn close_common_socket(&mut self, id: Id) {
        let Some(dgram) = self.dgram_mut(id) else { return };
        if matches!(dgram.destination, Route::Direct(_)) {
            dgram.destination = Route::None;
        }
        dgram.opened = false;
        if let Some(socket) = dgram.socket.take() {
            self.close(socket, false);
        }
    }
}

fn stream_flow(id: Id, stream: &Stream) -> Option<OpenFlow> {
    let live = matches!(stream.phase, Phase::Connecting(_) | Phase::AwaitRequest | Phase::Open);
    let target = stream.judged.filter(|_| live)?;
    let flow = Flow { protocol: Protocol::Tcp, destination: stream.peer.as_ref()?.inet()? };
    Some(OpenFlow { id: FlowId { record: id, part: FlowPart::Stream }, flow, target, stream: stream.socket })
}

fn rest_flow(socket: SocketId, rest: &Flushing) -> Option<OpenFlow> {
    let (destination, target) = rest.flow?;
    let flow = Flow { protocol: Protocol::Tcp, destination };
    let id = FlowId { record: rest.record, part: FlowPart::Rest(socket) };
    Some(OpenFlow { id, flow, target, stream: Some(socket) })
}

fn dgram_flows(id: Id, dgram: &Dgram, flows: &mut Vec<OpenFlow>) {
    let mut add = |part, destination: SocketAddr, target| {
        let flow = Flow { protocol: Protocol::Udp, destination };
        flows.push(OpenFlow { id: FlowId { record: id, part }, flow, target, stream: None });
    };
    if let (Route::Direct(peer), true) = (&dgram.peer, dgram.opened)
        && let Some(destination) = peer.inet()
    {
        add(FlowPart::Peer, destination, None);
    }
    dgram.contacts().for_each(|destination| add(FlowPart::Destination(destination), destination, None));
    for r in &dgram.redirected {
        add(FlowPart::Destination(r.original), r.original, Some(r.target));
    }
}
