//! The inodes a guest knows, as places in the shared tree. Pure: no descriptor, no system call.
//!
//! A node is the pair (parent node, name) plus the identity the host object had when it was found. The
//! descriptor can be made again from that at any time, so the number of nodes is not bounded by the number
//! of descriptors, and the table can be saved.

use std::collections::HashMap;
use std::ffi::CStr;

/// FUSE's number for the root of a mount (`FUSE_ROOT_ID`).
pub(super) const ROOT: u64 = 1;
/// Node numbers of the table are below this; what is above means something else.
pub(super) const END: u64 = 1 << 63;

/// Tells one host object from another that later takes its name, or its inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    /// Host device number.
    pub dev: u64,
    /// Host inode number.
    pub ino: u64,
    /// Creation time in nanoseconds since the epoch, 0 where the host file system has none. Inode
    /// numbers are used again at once by common file systems; this is not.
    pub born: i64,
    /// `S_IFMT` bits.
    pub format: u32,
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The shared directory itself.
    Root,
    /// An entry of another node.
    At {
        /// The directory.
        parent: u64,
        /// Its entry.
        name: Box<CStr>,
    },
    /// It has no name known to us: removed, or replaced.
    Gone,
}

/// One inode known to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub identity: Identity,
    pub place: Place,
    /// How often the guest was told of it and did not forget it again.
    pub lookups: u64,
    /// Nodes whose place is below this one.
    pub children: u64,
    /// Open handles.
    pub open: u32,
    /// The handle opened last, 0 if that is closed.
    pub handle: u64,
    /// (mtime in ns, size) last told to the guest: what its page cache belongs to.
    pub told: Option<(i64, u64)>,
}

impl Node {
    fn new(identity: Identity, place: Place) -> Self {
        Node { identity, place, lookups: 0, children: 0, open: 0, handle: 0, told: None }
    }

    fn unused(&self) -> bool {
        self.lookups == 0 && self.children == 0 && self.place != Place::Root
    }
}

/// The table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// All nodes of a session.
#[derive(Debug)]
pub(super) struct NodeTable {
    nodes: HashMap<u64, Node>,
    by_identity: HashMap<Identity, u64>,
    next: u64,
    limit: usize,
}

impl NodeTable {
    /// Only the root. `limit` bounds the number of nodes.
    pub fn new(root: Identity, limit: usize) -> Self {
        let mut table =
            NodeTable { nodes: HashMap::new(), by_identity: HashMap::new(), next: ROOT + 1, limit };
        table.nodes.insert(ROOT, Node::new(root, Place::Root));
        table.by_identity.insert(root, ROOT);
        table
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn get(&self, id: u64) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub fn get_mut(&mut self, id: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    pub fn find(&self, identity: &Identity) -> Option<u64> {
        self.by_identity.get(identity).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// The next node number that will be given. Numbers are never used twice in a session.
    pub fn next_id(&self) -> u64 {
        self.next
    }

    /// The object at (`parent`, `name`) has this identity and the guest is told of it: counts one lookup.
    /// A known object found at another place (a hard link, a rename by the host) moves there.
    /// `dropped` is called with nodes that went out of use.
    pub fn learn(
        &mut self,
        parent: u64,
        name: &CStr,
        identity: Identity,
        dropped: &mut dyn FnMut(u64),
    ) -> Result<u64, Full> {
        if let Some(id) = self.find(&identity) {
            self.move_to(id, parent, name, dropped);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.lookups = node.lookups.saturating_add(1);
            }
            return Ok(id);
        }
        let id = self.add(identity, Place::At { parent, name: name.into() })?;
        self.adopt(parent);
        Ok(id)
    }

    /// A new object that has no name; the guest is told of it. One that is known has one.
    pub fn learn_nameless(&mut self, identity: Identity) -> Result<u64, Full> {
        if let Some(id) = self.find(&identity) {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.lookups = node.lookups.saturating_add(1);
            }
            return Ok(id);
        }
        self.add(identity, Place::Gone)
    }

    fn add(&mut self, identity: Identity, place: Place) -> Result<u64, Full> {
        let id = self.next;
        if self.nodes.len() >= self.limit || id >= END {
            return Err(Full);
        }
        self.next = self.next.saturating_add(1);
        let mut node = Node::new(identity, place);
        node.lookups = 1;
        self.nodes.insert(id, node);
        self.by_identity.insert(identity, id);
        Ok(id)
    }

    /// Gives a node another place. The root stays where it is, and nothing moves below itself.
    pub fn move_to(&mut self, id: u64, parent: u64, name: &CStr, dropped: &mut dyn FnMut(u64)) {
        let Some(node) = self.nodes.get(&id) else { return };
        match &node.place {
            Place::Root => return,
            Place::At { parent: p, name: n } if *p == parent && **n == *name => return,
            _ => {}
        }
        // The host moved directories and the guest found the result in another order, or a directory is
        // mounted inside itself. What we have goes stale until the guest looks from above.
        if self.is_within(parent, id) {
            return;
        }
        self.adopt(parent);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let old = std::mem::replace(&mut node.place, Place::At { parent, name: name.into() });
        self.leave(&old, dropped);
    }

    /// The node's name was removed.
    pub fn detach(&mut self, id: u64, dropped: &mut dyn FnMut(u64)) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.place == Place::Root {
            return;
        }
        let old = std::mem::replace(&mut node.place, Place::Gone);
        self.leave(&old, dropped);
    }

    /// True if the node's place is exactly (`parent`, `name`).
    pub fn is_at(&self, id: u64, parent: u64, name: &CStr) -> bool {
        matches!(self.get(id), Some(Node { place: Place::At { parent: p, name: n }, .. })
            if *p == parent && **n == *name)
    }

    /// The guest forgets `count` lookups. More than it has counts as all.
    pub fn forget(&mut self, id: u64, count: u64, dropped: &mut dyn FnMut(u64)) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        self.collect(id, dropped);
    }

    /// Puts a saved node back. `parent` must be there already, or come later: see [`NodeTable::check`].
    pub fn insert_saved(&mut self, id: u64, node: Node) -> bool {
        let range = ROOT + 1..END;
        if !range.contains(&id)
            || self.nodes.len() >= self.limit
            || self.by_identity.contains_key(&node.identity)
        {
            return false;
        }
        self.next = self.next.max(id.saturating_add(1));
        self.by_identity.insert(node.identity, id);
        self.nodes.insert(id, node).is_none()
    }

    /// After all saved nodes are in: counts children, and says whether there is a next number, every parent exists and
    /// every node reaches the root or a nameless node.
    pub fn check(&mut self, next: u64) -> bool {
        if next >= END {
            return false;
        }
        self.next = self.next.max(next);
        let parents: Vec<u64> = self.nodes.values().filter_map(|n| parent_of(&n.place)).collect();
        for parent in parents {
            match self.nodes.get_mut(&parent) {
                Some(node) => node.children = node.children.saturating_add(1),
                None => return false,
            }
        }
        // A node that is known to end well ends every walk that meets it.
        let mut good: HashMap<u64, ()> = HashMap::new();
        for &start in self.nodes.keys() {
            let mut walk = Vec::new();
            let mut at = Some(start);
            while let Some(id) = at {
                if good.contains_key(&id) {
                    break;
                }
                if walk.len() > self.nodes.len() {
                    return false;
                }
                walk.push(id);
                at = self.get(id).and_then(|n| parent_of(&n.place));
            }
            good.extend(walk.into_iter().map(|id| (id, ())));
        }
        true
    }

    fn adopt(&mut self, parent: u64) {
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children = node.children.saturating_add(1);
        }
    }

    fn leave(&mut self, place: &Place, dropped: &mut dyn FnMut(u64)) {
        let Some(parent) = parent_of(place) else { return };
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children = node.children.saturating_sub(1);
        }
        self.collect(parent, dropped);
    }

    /// Removes a node that is not used any more, and then its parents as far as they are not either.
    fn collect(&mut self, id: u64, dropped: &mut dyn FnMut(u64)) {
        let mut at = Some(id);
        while let Some(id) = at {
            if !self.nodes.get(&id).is_some_and(Node::unused) {
                return;
            }
            let Some(node) = self.nodes.remove(&id) else { return };
            self.by_identity.remove(&node.identity);
            dropped(id);
            at = parent_of(&node.place);
            if let Some(parent) = at.and_then(|p| self.nodes.get_mut(&p)) {
                parent.children = parent.children.saturating_sub(1);
            }
        }
    }

    /// True if `node` is `top`, or is recorded below it.
    fn is_within(&self, node: u64, top: u64) -> bool {
        let mut at = Some(node);
        while let Some(id) = at {
            if id == top {
                return true;
            }
            at = self.get(id).and_then(|n| parent_of(&n.place));
        }
        false
    }
}

fn parent_of(place: &Place) -> Option<u64> {
    match place {
        Place::At { parent, .. } => Some(*parent),
        Place::Root | Place::Gone => None,
    }
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
