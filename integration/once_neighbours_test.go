package integration_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// restricted makes a user who may read and write the given prefixes only, and
// returns the configuration of a client of his.
func restricted(t *testing.T, c *etcdtest.Cluster, prefixes ...string) clientv3.Config {
	t.Helper()
	root := c.Client(t)
	_, err := root.RoleAdd(t.Context(), "writer")
	must(t, err)
	for _, p := range prefixes {
		_, err = root.RoleGrantPermission(t.Context(), "writer", p, clientv3.GetPrefixRangeEnd(p),
			clientv3.PermissionType(clientv3.PermReadWrite))
		must(t, err)
	}
	_, err = root.UserAdd(t.Context(), "ann", "secret")
	must(t, err)
	_, err = root.UserGrantRole(t.Context(), "ann", "writer")
	must(t, err)
	cfg := c.Config()
	cfg.Username, cfg.Password = "ann", "secret"
	return cfg
}

func TestOnceWorksForARestrictedRole(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithAuth("rootpw"))
	cli := newClient(t, restricted(t, c, "app/"), etcdcall.WithExactlyOnce("app/once/"))
	_, err := cli.Put(t.Context(), "app/k", "v1")
	must(t, err)
	injected(t, c, lossOfTxn)
	r, err := cli.Put(t.Context(), "app/k", "v2", clientv3.WithPrevKV())
	must(t, err)
	if r.PrevKv == nil || string(r.PrevKv.Value) != "v1" {
		t.Errorf("the recovered response has %v before", r.PrevKv)
	}
	if _, err := cli.Put(t.Context(), "other", "v"); !errors.Is(err, rpctypes.ErrPermissionDenied) || etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
		t.Errorf("a key outside the role: %v", err)
	}
}

func TestOncePrefixOutsideTheRoleIsSaid(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithAuth("rootpw"))
	cli := newClient(t, restricted(t, c, "app/"), etcdcall.WithExactlyOnce("once/"))
	_, err := cli.Put(t.Context(), "app/k", "v")
	if !errors.Is(err, rpctypes.ErrPermissionDenied) || etcdcall.OutcomeOf(err) != etcdcall.NotApplied || !strings.Contains(err.Error(), `"once/`) {
		t.Errorf("got %v, want PermissionDenied that names the prefix", err)
	}
}

// The permission for the key is taken back between the attempt that was applied
// and the one that tells.
func TestOnceAppliedBeforeItsPermissionWentIsAcknowledged(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithAuth("rootpw"))
	cli := newClient(t, restricted(t, c, "app/", "once/"), etcdcall.WithExactlyOnce("once/"))
	_, err := cli.Put(t.Context(), "app/k", "v1")
	must(t, err)
	in := injected(t, c, etcdtest.Fault{Method: etcdtest.MethodTxn, After: true, Answer: etcdtest.Hang()})
	got := make(chan error, 1)
	go func() {
		_, err := cli.Put(soon(t), "app/k", "v2")
		got <- err
	}()
	must(t, in.Wait(soon(t)))
	_, err = c.Client(t).RoleRevokePermission(t.Context(), "writer", "app/", clientv3.GetPrefixRangeEnd("app/"))
	must(t, err)
	c.Member(0).ClientLink().Reset()
	if err := <-got; err != nil {
		t.Errorf("a write that was applied: %v (%v)", err, etcdcall.OutcomeOf(err))
	}
	if _, err := cli.Put(soon(t), "app/k", "v3"); !errors.Is(err, rpctypes.ErrPermissionDenied) || etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
		t.Errorf("a write without permission: %v (%v)", err, etcdcall.OutcomeOf(err))
	}
}

func TestOnceWorksUnderANamespace(t *testing.T) {
	t.Parallel()
	c, cli, truth := onceCluster(t)
	kv := namespace.NewKV(cli.KV, "ns/")
	_, err := kv.Put(t.Context(), "k", "v1")
	must(t, err)
	injected(t, c, lossOfTxn)
	r, err := kv.Txn(t.Context()).If(clientv3.Compare(clientv3.Value("k"), "=", "v1")).
		Then(clientv3.OpPut("k", "v2", clientv3.WithPrevKV()), clientv3.OpGet("k")).Commit()
	must(t, err)
	if !r.Succeeded || string(r.Responses[0].GetResponsePut().PrevKv.Key) != "k" ||
		string(r.Responses[1].GetResponseRange().Kvs[0].Value) != "v2" {
		t.Errorf("the recovered response is %v", r)
	}
	g, err := truth.Get(t.Context(), "ns/", clientv3.WithPrefix())
	must(t, err)
	if len(g.Kvs) != 1 || string(g.Kvs[0].Key) != "ns/k" {
		t.Errorf("under the namespace there are %v", g.Kvs)
	}
	_, err = kv.Delete(t.Context(), "", clientv3.WithFromKey())
	must(t, err) // all of the namespace, which the records are not in
}

// A watch of the whole key space sees each write with its record in one
// response, and the record under the prefix only.
func TestOnceInAWatchOfEverything(t *testing.T) {
	t.Parallel()
	_, cli, truth := onceCluster(t)
	from := records(t, truth).Header.Revision + 1
	const writes = 20
	var last int64
	for i := range writes {
		r, err := cli.Put(t.Context(), "k", fmt.Sprint(i))
		must(t, err)
		last = r.Header.Revision
	}
	var users []*clientv3.Event
	perRevision := map[int64]int{}
	for resp := range truth.Watch(soon(t), "", clientv3.WithFromKey(), clientv3.WithRev(from)) {
		must(t, resp.Err())
		for _, ev := range resp.Events {
			perRevision[ev.Kv.ModRevision]++
			if !strings.HasPrefix(string(ev.Kv.Key), oncePrefix) {
				users = append(users, ev)
			}
		}
		if resp.Header.Revision >= last {
			break
		}
	}
	if len(users) != writes {
		t.Fatalf("%d events of the user's key, want %d", len(users), writes)
	}
	for i, ev := range users {
		if string(ev.Kv.Value) != fmt.Sprint(i) || perRevision[ev.Kv.ModRevision] != 2 {
			t.Errorf("event %d is %v, one of %d at its revision", i, ev, perRevision[ev.Kv.ModRevision])
		}
	}
}

// A mirror of the whole key space gets the same keys, and loses the records
// when the client is closed.
func TestOnceUnderAMirror(t *testing.T) {
	t.Parallel()
	_, cli, truth := onceCluster(t)
	sync := mirror.NewSyncer(truth, "", 0)
	copied := map[string]string{}
	snapshot, errs := sync.SyncBase(soon(t))
	for r := range snapshot {
		for _, kv := range r.Kvs {
			copied[string(kv.Key)] = string(kv.Value)
		}
	}
	must(t, <-errs)
	updates := sync.SyncUpdates(soon(t))
	for i := range 10 {
		_, err := cli.Put(t.Context(), fmt.Sprint("k", i), "v")
		must(t, err)
	}
	_ = cli.Close()
	end, err := truth.Put(t.Context(), "end", "v")
	must(t, err)
	for r := range updates {
		for _, ev := range r.Events {
			if ev.Type == clientv3.EventTypeDelete {
				delete(copied, string(ev.Kv.Key))
			} else {
				copied[string(ev.Kv.Key)] = string(ev.Kv.Value)
			}
		}
		if r.Header.Revision >= end.Header.Revision {
			break
		}
	}
	all, err := truth.Get(t.Context(), "", clientv3.WithFromKey())
	must(t, err)
	if len(all.Kvs) != len(copied) || len(copied) != 12 {
		t.Errorf("the mirror has %v, the store %d keys", copied, len(all.Kvs))
	}
	for _, kv := range all.Kvs {
		if copied[string(kv.Key)] != string(kv.Value) {
			t.Errorf("the mirror has %q for %q, the store %q", copied[string(kv.Key)], kv.Key, kv.Value)
		}
	}
}
