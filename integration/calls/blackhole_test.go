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
	for range 3 {
		must(t, second(cli.Get(soon(t), "k")))
	}
	must(t, c.Member(0).ClientLink().BlackHole(etcdtest.Requests))
	// Round robin sends every third read into the hole.
	cut := 0
	for range 9 {
		start := time.Now()
		must(t, second(cli.Get(soon(t), "k")))
		if time.Since(start) >= patience {
			cut++
		}
	}
	if cut == 0 {
		t.Error("no read fell into the hole")
	}
	t.Logf("%d of 9 reads fell into the hole and came out of it", cut)
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
