package integration_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// update replaces the value of a key by f of it, in transactions guarded by the
// key's revision, until one of them succeeds. It depends on being told truly
// which did.
func update(ctx context.Context, kv clientv3.KV, key string, f func(string) string) error {
	got, err := kv.Get(ctx, key)
	for err == nil {
		old, rev := "", int64(0)
		if len(got.Kvs) > 0 {
			old, rev = string(got.Kvs[0].Value), got.Kvs[0].ModRevision
		}
		var r *clientv3.TxnResponse
		r, err = kv.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
			Then(clientv3.OpPut(key, f(old))).Else(clientv3.OpGet(key)).Commit()
		if err != nil || r.Succeeded {
			return err
		}
		got = (*clientv3.GetResponse)(r.Responses[0].GetResponseRange())
	}
	return err
}

// Eight clients increment one counter and append to one list on three members
// under faults. Every acknowledged increment and append is there once.
func TestExactlyOnceIncrementsAndAppends(t *testing.T) {
	t.Parallel()
	const clients, each = 8, 8
	c := etcdtest.New(t, etcdtest.WithMembers(3))
	trouble, calm := context.WithCancel(t.Context())
	var done atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		cli := newClient(t, c.Config(), etcdcall.WithExactlyOnce(oncePrefix),
			etcdcall.WithAttemptTimeout(500*time.Millisecond),
			etcdcall.WithBackoff(reprise.Backoff{Initial: 5 * time.Millisecond, Max: 100 * time.Millisecond}))
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			for n := range each {
				item := fmt.Sprintf("%d.%d", i, n)
				for _, err := range []error{
					update(ctx, cli, "counter", func(old string) string {
						count, _ := strconv.Atoi(old) // nothing counts as 0
						return strconv.Itoa(count + 1)
					}),
					update(ctx, cli, "list", func(old string) string { return old + item + " " }),
				} {
					if err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
					done.Add(1)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		calm()
	}()
	did := mayhem(trouble, t, c, &done)
	wg.Wait()

	truth, err := c.Member(0).Truth()
	must(t, err)
	counter, err := truth.Get(soon(t), "counter")
	must(t, err)
	list, err := truth.Get(soon(t), "list")
	must(t, err)
	if got := string(counter.Kvs[0].Value); got != strconv.Itoa(clients*each) {
		t.Errorf("the counter is %s after %d increments", got, clients*each)
	}
	items := map[string]int{}
	for item := range strings.FieldsSeq(string(list.Kvs[0].Value)) {
		items[item]++
	}
	for item, n := range items {
		if n != 1 {
			t.Errorf("%s was appended %d times", item, n)
		}
	}
	if len(items) != clients*each {
		t.Errorf("%d items after %d appends", len(items), clients*each)
	}
	t.Logf("%d increments and %d appends; %v", clients*each, clients*each, did)
}
