package etcdtest

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver"
)

// Leader returns the running member that leads, or nil if none does. If two
// believe that they lead, which happens while one is cut off, it is the one
// of the higher term.
func (c *Cluster) Leader() *Member {
	var leader *Member
	var term uint64
	for _, m := range c.members {
		s := m.Server()
		if s != nil && s.Leader() == s.MemberID() && (leader == nil || s.Term() > term) {
			leader, term = m, s.Term()
		}
	}
	return leader
}

// WaitLeader waits until a majority of the members follow one running leader,
// and returns it.
func (c *Cluster) WaitLeader(ctx context.Context) (*Member, error) {
	return c.wait(ctx, "a leader", c.agreed)
}

// MoveLeader makes the given member the leader, and waits until a majority
// follows it. It is an election without the silence before it: clients see
// calls fail for some milliseconds. It does nothing if that member leads.
func (c *Cluster) MoveLeader(ctx context.Context, to *Member) error {
	from, err := c.WaitLeader(ctx)
	if err != nil || from == to {
		return err
	}
	s := from.Server()
	if s == nil {
		return ErrDown
	}
	if err := s.MoveLeader(ctx, uint64(s.MemberID()), to.ID()); err != nil {
		return fmt.Errorf("etcdtest: move the leader to %s: %w", to.name, err)
	}
	_, err = c.wait(ctx, to.name+" to lead", func() *Member {
		if c.agreed() == to {
			return to
		}
		return nil
	})
	return err
}

// agreed returns the leader that a majority follows, or nil.
func (c *Cluster) agreed() *Member {
	leader := c.Leader()
	if leader == nil {
		return nil
	}
	followers := 0
	for _, m := range c.members {
		if s := m.Server(); s != nil && follows(s, leader) {
			followers++
		}
	}
	if 2*followers <= len(c.members) {
		return nil
	}
	return leader
}

func follows(s *etcdserver.EtcdServer, leader *Member) bool {
	return uint64(s.Leader()) == leader.ID()
}

// wait polls, since an etcd server says when its leader changed but not when
// others followed.
func (c *Cluster) wait(ctx context.Context, what string, found func() *Member) (*Member, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if m := found(); m != nil {
			return m, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("etcdtest: waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}
