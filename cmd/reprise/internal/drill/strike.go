package drill

import (
	"context"
	"errors"
	"time"

	"golang.org/x/net/http2"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// unrest strikes a cluster on schedule.
type unrest struct {
	cluster *etcdtest.Cluster
	struck  func(Fault)
	count   map[Fault]int // how often members were killed and links cut
	armed   map[Fault][]*etcdtest.Injection
}

func newUnrest(c *etcdtest.Cluster, struck func(Fault)) *unrest {
	return &unrest{cluster: c, struck: struck, count: make(map[Fault]int), armed: make(map[Fault][]*etcdtest.Injection)}
}

// run carries out the strikes until the time is up, and then makes the cluster
// whole. A strike that is late, since the one before took long, delays those
// after it: a cluster that is slow to recover is not struck more often. The first strikes, one of each kind, happen even if time is up, so
// that a slow machine sees every kind; only the end of ctx stops them.
func (u *unrest) run(ctx context.Context, strikes []strike, timeUp <-chan struct{}) (map[Fault]int, error) {
	start := time.Now()
	var err error
	for i, s := range strikes {
		stop := timeUp
		if i < len(Faults()) {
			stop = nil
		}
		if !wait(ctx, time.Until(start.Add(s.at)), stop) {
			break
		}
		start = start.Add(time.Since(start.Add(s.at)))
		if err = u.strike(ctx, s); err != nil {
			break
		}
		u.struck(s.fault)
	}
	if err == nil {
		err = u.eachHit(ctx)
	}
	if err == nil {
		wait(ctx, forever, timeUp)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return u.count, errors.Join(err, u.heal(ctx))
}

func (u *unrest) strike(ctx context.Context, s strike) error {
	switch s.fault {
	case KillLeader:
		return u.kill(ctx, s.hold)
	case CutLink:
		return u.cut(ctx, s)
	case LoseResponse:
		return u.arm(s, true, etcdtest.Lose())
	default:
		return u.arm(s, s.after, etcdtest.ResetStream(http2.ErrCodeCancel))
	}
}

func (u *unrest) kill(ctx context.Context, away time.Duration) error {
	leader, err := u.cluster.WaitLeader(ctx)
	if err != nil {
		return err
	}
	if err := leader.Kill(); err != nil {
		return err
	}
	u.count[KillLeader]++
	wait(ctx, away, nil)
	return leader.Restart(ctx)
}

func (u *unrest) cut(ctx context.Context, s strike) error {
	m := u.cluster.Member(s.member)
	u.count[CutLink]++
	if s.peers {
		err := u.cluster.Isolate(m)
		wait(ctx, s.hold, nil)
		return errors.Join(err, u.cluster.HealPeers())
	}
	err := m.ClientLink().Cut()
	wait(ctx, s.hold, nil)
	return errors.Join(err, m.ClientLink().Heal())
}

// arm makes the next writes suffer, whichever method they use: a side may
// write with Put or with Txn.
func (u *unrest) arm(s strike, after bool, answer etcdtest.Answer) error {
	in, err := u.cluster.Inject(etcdtest.Fault{Match: isWrite, Calls: s.calls, After: after, Answer: answer})
	if err != nil {
		return err
	}
	u.armed[s.fault] = append(u.armed[s.fault], in)
	return nil
}

func isWrite(method string, _ any) bool {
	return method == etcdtest.MethodPut || method == etcdtest.MethodTxn
}

// eachHit waits until every kind of armed fault has hit a call.
func (u *unrest) eachHit(ctx context.Context) error {
	for _, armed := range u.armed {
		if err := armed[0].Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// heal ends every fault, and adds up what the armed ones hit.
func (u *unrest) heal(ctx context.Context) error {
	for fault, armed := range u.armed {
		for _, in := range armed {
			in.Stop()
			u.count[fault] += in.Fired()
		}
	}
	errs := []error{u.cluster.HealPeers()}
	for _, m := range u.cluster.Members() {
		errs = append(errs, m.ClientLink().Heal())
		if !m.Running() && ctx.Err() == nil {
			errs = append(errs, m.Restart(ctx))
		}
	}
	if ctx.Err() == nil {
		_, err := u.cluster.WaitLeader(ctx)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// forever is longer than any drill.
const forever = 1000 * time.Hour

// wait waits for d, and says whether it got there before ctx or stop ended.
func wait(ctx context.Context, d time.Duration, stop <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-stop:
		return false
	}
}
