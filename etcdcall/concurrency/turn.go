package concurrency

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// turn is what a claim knows of its place that waits by the watch of its queue. All but
// came is guarded by the queue's mutex until something was sent there.
type turn struct {
	claim *claim
	// early are the deletions, as revisions by key, that the watch has told of while the
	// request is under way that creates the claim's key.
	early map[string]int64
	// ahead are the keys of those before the claim. All of them, and its own, were there
	// at revision since; what was deleted later is taken away, the last at revision last.
	ahead       []string
	since, last int64
	// lost says that the key of the claim is not there any more.
	lost bool
	came chan int64 // receives a revision at which the turn came or was lost, once
}

// note notes a deletion before begin.
func (t *turn) note(key string, rev int64) {
	if t.early == nil {
		t.early = make(map[string]int64)
	}
	t.early[key] = rev
}

// begin begins with what the claim's request was answered, what was in the queue when
// the watch began, and what was deleted since. If it has not begun, an earlier watch told
// of the deletions: not of all, perhaps.
func (t *turn) begin(p *place, base *v3.GetResponse) {
	t.stand(p.ahead, p.known)
	if base != nil {
		t.restart(base)
		for key, rev := range t.early {
			t.gone(key, rev)
		}
	}
	t.early = nil
}

// restart has the claim stand where a snapshot shows it, unless more is known.
func (t *turn) restart(snapshot *v3.GetResponse) {
	if snapshot.Header.Revision < t.since {
		return
	}
	t.lost = true
	var ahead []*mvccpb.KeyValue
	for _, kv := range snapshot.Kvs {
		switch key := string(kv.Key); {
		case key == t.claim.key && kv.CreateRevision == t.claim.rev:
			t.lost = false
		case kv.CreateRevision < t.claim.rev:
			ahead = append(ahead, kv)
		}
	}
	t.stand(ahead, snapshot.Header.Revision)
}

func (t *turn) stand(ahead []*mvccpb.KeyValue, since int64) {
	t.since, t.last, t.ahead = since, since, make([]string, len(ahead))
	for i, kv := range ahead {
		t.ahead[i] = string(kv.Key)
	}
}

// gone notes that a key was deleted.
func (t *turn) gone(key string, rev int64) {
	if rev <= t.since {
		return
	}
	t.last = max(t.last, rev)
	t.lost = t.lost || key == t.claim.key
	if i := slices.Index(t.ahead, key); i >= 0 {
		t.ahead = slices.Delete(t.ahead, i, i+1)
	}
}

// over tells the claim, and returns true, if there is nothing left to wait for.
func (t *turn) over() bool {
	over := t.lost || len(t.ahead) == 0
	if over {
		t.came <- t.last
	}
	return over
}

// await waits until the turn of a claim has come that has joined its queue.
func (c *claim) await(ctx context.Context) error {
	select {
	case rev := <-c.turn.came:
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case c.turn.lost:
			return c.missing(ctx)
		case c.strict:
			return c.confirm(ctx, rev)
		}
		c.header = headerAt(c.header, rev)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// confirm reads what the watch has said of a revision.
func (c *claim) confirm(ctx context.Context, rev int64) error {
	p, err := c.look(ctx, rev)
	if err != nil {
		return err
	}
	return c.wait(ctx, p)
}
