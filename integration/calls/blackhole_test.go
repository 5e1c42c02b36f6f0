package calls_test

import (
	"errors"
	"testing"
	"time"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestABlackHoleCostsAReadOneAttempt(t *testing.T) {
	t.Parallel()
	const patience = 200 * time.Millisecond
	c := etcdtest.New(t, etcdtest.WithMembers(3))
	cli := client(t, c.Config(), etcdcall.WithAttemptTimeout(patience))
	// The hole swallows only the reads of a client that is connected to it.
	for answered := map[uint64]bool{}; len(answered) < 3; {
		resp, err := cli.Get(soon(t), "k")
		must(t, err)
		answered[resp.Header.MemberId] = true
	}
	must(t, c.Member(0).ClientLink().BlackHole(etcdtest.Requests))
	// Round robin sends every third read into the hole.
	fell := false
	for ctx := soon(t); !fell; {
		start := time.Now()
		if err := second(cli.Get(ctx, "k")); err != nil {
			t.Fatalf("a read that began %v ago: %v", time.Since(start), err)
		}
		fell = time.Since(start) >= patience
	}
}

func TestABlackHoleCostsABlindWriteOneKeepalive(t *testing.T) {
	t.Parallel()
	if !*campaign {
		t.Skip("takes 15 s, which gRPC does not let a client shorten: run with -campaign")
	}
	c := etcdtest.New(t)
	cli := client(t, c.Config())
	must(t, second(cli.Put(soon(t), "k", "v")))
	must(t, c.Member(0).ClientLink().BlackHole(etcdtest.Requests))
	start := time.Now()
	err := second(cli.Put(within(t, time.Minute), "k", "w"))
	took := time.Since(start)
	var ambiguous *etcdcall.AmbiguousError
	if limit := etcdcall.DefaultKeepAliveTime + etcdcall.DefaultKeepAliveTimeout + 5*time.Second; !errors.As(err, &ambiguous) || took > limit {
		t.Errorf("after %v: %v", took, err)
	}
	t.Logf("after %v: %v", took.Round(time.Millisecond), err)
}
