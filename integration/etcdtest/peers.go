package etcdtest

import "errors"

// CutPeers cuts the network between two members, both ways: their connections
// are reset and none comes about. Clients still reach both. It does nothing
// for a member and itself.
func (c *Cluster) CutPeers(a, b *Member) error { return c.cutPeers(a, b, true) }

// Isolate cuts a member off from all other members. A leader finds out after
// the election timeout that it leads nobody. Clients still reach the member;
// to take it away from them too, cut its [Member.ClientLink].
func (c *Cluster) Isolate(m *Member) error {
	var errs []error
	for _, other := range c.members {
		errs = append(errs, c.cutPeers(m, other, true))
	}
	return errors.Join(errs...)
}

// HealPeers undoes every [Cluster.CutPeers] and [Cluster.Isolate].
func (c *Cluster) HealPeers() error {
	var errs []error
	for i, a := range c.members {
		for _, b := range c.members[i+1:] {
			errs = append(errs, c.cutPeers(a, b, false))
		}
	}
	return errors.Join(errs...)
}

func (c *Cluster) cutPeers(a, b *Member, cut bool) error {
	if a == b {
		return nil
	}
	return errors.Join(a.peer.cutFrom(b.hexID(), cut), b.peer.cutFrom(a.hexID(), cut))
}
