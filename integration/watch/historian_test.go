package watch_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/integration/check"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// historian reads the history before it compacts it, so that nothing is lost to
// the log.
type historian struct {
	cluster *etcdtest.Cluster
	log     check.Log
	next    int64
	behind  []int64 // revisions read, the latest last
	lost    string  // how the store lost what it had acknowledged; empty if it did not
}

// look reads up to now and compacts what is older than twenty looks.
func (h *historian) look(ctx context.Context) error {
	truth, until, err := h.mark(ctx)
	if err != nil {
		return err
	}
	if until < h.next {
		h.lost = fmt.Sprintf("it was at revision %d, and a later write has revision %d", h.next-1, until)
	}
	log, err := check.ReadLog(ctx, truth, prefix, h.next, until)
	if err != nil {
		return err
	}
	h.log.Events = append(h.log.Events, log.Events...)
	h.next = until + 1
	if h.behind = append(h.behind, until); len(h.behind) > 20 {
		_, err = truth.Compact(ctx, h.behind[len(h.behind)-20])
	}
	return err
}

// mark writes a key, to have an event to read up to.
func (h *historian) mark(ctx context.Context) (*clientv3.Client, int64, error) {
	leader, err := h.cluster.WaitLeader(ctx)
	if err != nil {
		return nil, 0, err
	}
	truth, err := leader.Truth()
	if err != nil {
		return nil, 0, err
	}
	r, err := truth.Put(ctx, prefix+"mark", "")
	if err != nil {
		return nil, 0, err
	}
	return truth, r.Header.Revision, nil
}

// finish heals everything and ends the watchers.
func finish(t *testing.T, c *etcdtest.Cluster) {
	t.Helper()
	for _, m := range c.Members() {
		must(t, m.ClientLink().Heal())
		if !m.Running() {
			must(t, m.Restart(soon(t)))
		}
	}
	must(t, c.HealPeers())
	// A machine that is busy changes leaders without being asked to, so each
	// of these is made until it succeeds, and does the same when made again.
	for _, change := range []func(ctx context.Context, truth *clientv3.Client) error{
		func(ctx context.Context, truth *clientv3.Client) error {
			return second(truth.Put(ctx, lastKey, ""))
		},
		func(ctx context.Context, truth *clientv3.Client) error {
			missing := clientv3.Compare(clientv3.CreateRevision(endKey), "=", 0)
			return second(truth.Txn(ctx).If(missing).Then(clientv3.OpPut(endKey, "")).Commit())
		},
		func(ctx context.Context, truth *clientv3.Client) error {
			return second(truth.Delete(ctx, endKey))
		},
	} {
		until(t, c, change)
	}
}

// putTruth puts a value other than the one that is there, once, however often it
// is made. It returns the revision.
func putTruth(t *testing.T, c *etcdtest.Cluster, key, value string) (rev int64) {
	t.Helper()
	until(t, c, func(ctx context.Context, truth *clientv3.Client) error {
		done := clientv3.Compare(clientv3.Value(key), "=", value)
		r, err := truth.Txn(ctx).If(done).Then(clientv3.OpGet(key)).Else(clientv3.OpPut(key, value)).Commit()
		if err != nil {
			return err
		}
		if rev = r.Header.Revision; r.Succeeded {
			rev = r.Responses[0].GetResponseRange().Kvs[0].ModRevision
		}
		return nil
	})
	return rev
}

// complete reads the rest of the log, when all watchers have ended. It returns
// the last revision that they were given.
func (h *historian) complete(t *testing.T) int64 {
	t.Helper()
	until(t, h.cluster, func(ctx context.Context, _ *clientv3.Client) error {
		truth, mark, err := h.mark(ctx)
		if err != nil {
			return err
		}
		log, err := check.ReadLog(ctx, truth, prefix, h.next, mark)
		if err == nil {
			h.log.Events = append(h.log.Events, log.Events...)
		}
		return err
	})
	for _, ev := range slices.Backward(h.log.Events) {
		if string(ev.Kv.Key) == endKey && ev.Type == clientv3.EventTypeDelete {
			return ev.Kv.ModRevision
		}
	}
	t.Fatal("the log does not have the end")
	return 0
}

func second[T any](_ T, err error) error { return err }

// agree checks that it was the cluster that the watches were tested on, and not
// one that lost what it had acknowledged or whose members differ.
func (h *historian) agree(t *testing.T) {
	t.Helper()
	if h.lost != "" {
		t.Errorf("the cluster lost writes: %s", h.lost)
	}
	var first *clientv3.GetResponse
	for _, m := range h.cluster.Members() {
		until(t, h.cluster, func(ctx context.Context, _ *clientv3.Client) error {
			truth, err := m.Truth()
			if err != nil {
				return err
			}
			r, err := truth.Get(ctx, prefix, clientv3.WithPrefix())
			if err != nil {
				return err
			}
			if first == nil {
				first = r
			}
			if r.Header.Revision != first.Header.Revision || !slices.EqualFunc(r.Kvs, first.Kvs, func(a, b *mvccpb.KeyValue) bool { return a.String() == b.String() }) {
				t.Errorf("%s is at revision %d with %d keys, the first member at %d with %d", m.Name(), r.Header.Revision, len(r.Kvs), first.Header.Revision, len(first.Kvs))
			}
			return nil
		})
	}
}

// until calls f with a client that no fault touches until it succeeds.
func until(t *testing.T, c *etcdtest.Cluster, f func(ctx context.Context, truth *clientv3.Client) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := reprise.Invoke(ctx, func(ctx context.Context, _ reprise.CallSettings) error {
		leader, err := c.WaitLeader(ctx)
		if err != nil {
			return err
		}
		truth, err := leader.Truth()
		if err != nil {
			return err
		}
		return f(ctx, truth)
	}, reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnErrorFunc(reprise.Backoff{}, func(error) bool { return true })
	}))
	must(t, err)
}
