package etcdtest_test

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestAnInjectedFaultHitsTheNextCallsOfItsMethod(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		answer etcdtest.Answer
		want   codes.Code
		hangs  bool
	}{
		"lost":            {etcdtest.Lose(), codes.Unavailable, false},
		"status":          {etcdtest.Fail(status.Error(codes.Canceled, "no")), codes.Canceled, false},
		"etcd error":      {etcdtest.Fail(rpctypes.ErrTimeout), codes.Unavailable, false},
		"wire error":      {etcdtest.Fail(rpctypes.ErrGRPCNoSpace), codes.ResourceExhausted, false},
		"plain error":     {etcdtest.Fail(errors.New("plain")), codes.Unknown, false},
		"no error":        {etcdtest.Fail(nil), codes.Unknown, false},
		"stream reset":    {etcdtest.ResetStream(http2.ErrCodeCancel), codes.Canceled, false},
		"hanging handler": {etcdtest.Hang(), codes.Canceled, true},
	} {
		for when, after := range map[string]bool{"before": false, "after": true} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				testInjection(t, f.answer, f.want, f.hangs, after)
			})
		}
	}
}

func testInjection(t *testing.T, answer etcdtest.Answer, want codes.Code, hangs, after bool) {
	c := etcdtest.New(t)
	cli := onceOnly(t, c)
	in, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodPut, Calls: 2, After: after, Answer: answer})
	must(t, err)

	_, err = cli.Get(soon(t), "key")
	must(t, err)
	for i := range 2 {
		write := func(ctx context.Context) error {
			_, err := cli.Put(ctx, "key", "value")
			return err
		}
		if hangs {
			err = abandoned(t, "the fault", func() bool { return in.Fired() > i }, write)
		} else {
			err = write(soon(t))
		}
		if code(err) != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	must(t, in.Wait(soon(t)))
	applied := int64(0)
	if after {
		applied = 2
	}
	if got := version(t, c, "key"); got != applied {
		t.Errorf("applied %d times, want %d", got, applied)
	}
	if got := in.Fired(); got != 2 {
		t.Errorf("fired %d times, want 2", got)
	}
	_, err = cli.Put(soon(t), "key", "value")
	must(t, err)
}

func TestFaultsWorkUnderTLS(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithTLS())
	cli := onceOnly(t, c)
	_, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodPut, After: true, Answer: etcdtest.Lose()})
	must(t, err)
	if _, err := cli.Put(soon(t), "key", "value"); code(err) != codes.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
	if got := version(t, c, "key"); got != 1 {
		t.Errorf("applied %d times, want 1", got)
	}
	_, err = c.Inject(etcdtest.Fault{Answer: etcdtest.ResetStream(http2.ErrCodeCancel)})
	if !errors.Is(err, etcdtest.ErrEncrypted) {
		t.Errorf("got %v, want ErrEncrypted", err)
	}
}

func TestAFaultOfOneMemberSparesTheOthers(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm)
	in, err := c.Inject(etcdtest.Fault{Member: c.Member(1), Calls: -1, Answer: etcdtest.Fail(rpctypes.ErrStopped)})
	must(t, err)
	for i, m := range c.Members() {
		cfg := c.Config()
		cfg.Endpoints, cfg.MaxUnaryRetries = []string{m.Endpoint()}, 1
		cli, err := clientv3.New(cfg)
		must(t, err)
		if _, err = cli.Put(soon(t), "key", "value"); (err != nil) != (i == 1) {
			t.Errorf("member %d: %v", i, err)
		}
		_ = cli.Close()
	}
	in.Stop()
	in.Stop()
	must(t, in.Wait(soon(t)))
	if got := in.Fired(); got != 1 {
		t.Errorf("fired %d times, want 1", got)
	}
}

func TestAFaultMatchesByTheRequest(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := onceOnly(t, c)
	_, err := c.Inject(etcdtest.Fault{
		Match: func(method string, req any) bool {
			put, ok := req.(*etcdserverpb.PutRequest)
			return ok && method == etcdtest.MethodPut && string(put.Key) == "bad"
		},
		Answer: etcdtest.Fail(rpctypes.ErrStopped),
	})
	must(t, err)
	_, err = cli.Put(soon(t), "good", "value")
	must(t, err)
	if _, err = cli.Put(soon(t), "bad", "value"); err == nil {
		t.Error("the call that matches went through")
	}
}

func TestAWaitForAFaultEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	in, err := c.Inject(etcdtest.Fault{Answer: etcdtest.Lose()})
	must(t, err)
	if err := in.Wait(short(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	if _, err := c.Inject(etcdtest.Fault{}); err == nil {
		t.Error("no error for a fault without an answer")
	}
}

func TestTheFirstMessageOfAStreamIsLost(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := onceOnly(t, c)
	in, err := c.Inject(etcdtest.Fault{Method: etcdtest.MethodWatch, After: true, Answer: etcdtest.Lose()})
	must(t, err)
	events := cli.Watch(soon(t), "key", clientv3.WithCreatedNotify())
	must(t, in.Wait(soon(t)))
	if r := <-events; !r.Created {
		t.Fatalf("got %v, want the watch to be created after all", r)
	}
	_, err = cli.Put(soon(t), "key", "value")
	must(t, err)
	if r := <-events; len(r.Events) != 1 {
		t.Errorf("got %v, want the write", r)
	}
}
