package watch_test

import (
	"context"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestTheChannelOfTheDropInWatcherIsThatOfClientv3(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	for name, cli := range map[string]*clientv3.Client{"clientv3": raw(t, c), "etcdcall": client(t, c)} {
		ctx, cancel := context.WithCancel(t.Context())
		key := "key of " + name
		rev := put(t, cli, key, "before")
		channel := cli.Watch(ctx, key, clientv3.WithCreatedNotify(), clientv3.WithPrevKV(), clientv3.WithFilterDelete())

		if r, _ := response(t, channel); !r.Created || r.Header.Revision < rev || len(r.Events) > 0 {
			t.Errorf("%s: it begins with %+v", name, r)
		}
		_, err := cli.Delete(t.Context(), key)
		must(t, err)
		put(t, cli, key, "after")
		rev = put(t, cli, key, "later")
		for _, want := range []string{"after", "later"} {
			r, _ := response(t, channel)
			if len(r.Events) != 1 || string(r.Events[0].Kv.Value) != want || r.Err() != nil || r.Canceled {
				t.Errorf("%s: got %+v, want one put of %q", name, r, want)
			} else if want == "later" && (r.Events[0].PrevKv == nil || r.Header.Revision != rev) {
				t.Errorf("%s: got previous value %v at revision %d", name, r.Events[0].PrevKv, r.Header.Revision)
			}
		}
		must(t, cli.RequestProgress(ctx))
		if r, _ := response(t, channel); !r.IsProgressNotify() || r.Header.Revision < rev {
			t.Errorf("%s: asked for progress, got %+v", name, r)
		}
		cancel()
		if r, open := response(t, channel); open {
			t.Errorf("%s: after its context ended: %+v", name, r)
		}

		closing := cli.Watch(t.Context(), key)
		must(t, cli.Watcher.Close())
		for _, channel := range []clientv3.WatchChan{closing, cli.Watch(t.Context(), key)} {
			if r, open := response(t, channel); open {
				t.Errorf("%s: after it was closed: %+v", name, r)
			}
		}
		if cli.RequestProgress(t.Context()) == nil {
			t.Errorf("%s: a closed watcher promises progress", name)
		}
	}
}

func TestAWatchTakesWhatIsLargerThanAMessageMayBe(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cfg := c.Config()
	cfg.MaxCallRecvMsgSize = 2500 << 10
	cli, err := etcdcall.New(cfg)
	must(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	const n = 60
	value := string(make([]byte, 100<<10))
	for i := range n {
		put(t, truth(t, c), fmt.Sprintf("p/%02d", i), value)
	}
	w := watch(t, cli, "p/", clientv3.WithPrefix(), clientv3.WithRev(1))
	i, portions := 0, 0
	for i < n {
		changes, err := w.Next(soon(t))
		must(t, err)
		for _, ev := range changes.Events {
			if want := fmt.Sprintf("p/%02d", i); string(ev.Kv.Key) != want || len(ev.Kv.Value) != len(value) {
				t.Fatalf("got %s, want %s", ev.Kv.Key, want)
			}
			i++
		}
		portions++
	}
	if portions < 2 {
		t.Errorf("%d changes of 100 KB came in %d portions", n, portions)
	}
	if r, _ := response(t, rawOf(t, cfg).Watch(t.Context(), "p/", clientv3.WithPrefix(), clientv3.WithRev(1))); r.Err() == nil {
		t.Error("control: clientv3 takes it without asking for fragments")
	}
}
