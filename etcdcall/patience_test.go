package etcdcall

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestEachAttemptEndsWhenItsOwnTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatience(time.Second)
		began := time.Now()
		lasted := make([]time.Duration, 5)
		for round := range 2 { // the timer is set again after all have ended
			var wg sync.WaitGroup
			for i := range lasted {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * 300 * time.Millisecond)
					var b bounded
					start := time.Now()
					ctx := p.begin(t.Context(), &b)
					if i == 2 { // one that is done in time
						time.Sleep(time.Millisecond)
					} else {
						<-ctx.Done()
					}
					lasted[i] = time.Since(start)
					if over := p.end(&b); over != (i != 2) {
						t.Errorf("attempt %d of round %d overdue: %v", i, round, over)
					}
				})
			}
			wg.Wait()
			for i, d := range lasted {
				if want := time.Second; i != 2 && d != want {
					t.Errorf("attempt %d of round %d lasted %v, want %v", i, round, d, want)
				}
			}
		}
		if took := time.Since(began); took != 2*(4*300*time.Millisecond+time.Second) {
			t.Errorf("took %v", took)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if p.set || p.first != nil || p.last != nil {
			t.Error("with no attempt under way, something is still watched")
		}
	})
}

func TestPatienceIsSharedByManyAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatience(time.Second)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 50 {
					var b bounded
					work := time.Duration(rand.IntN(2000)) * time.Millisecond
					start := time.Now()
					ctx := p.begin(t.Context(), &b)
					select {
					case <-ctx.Done():
					case <-time.After(work):
					}
					took := time.Since(start)
					over := p.end(&b)
					if over && took != time.Second || !over && took != work || took > time.Second {
						t.Errorf("work of %v was ended after %v, overdue: %v", work, took, over)
					}
					if ctx.Err() == nil {
						t.Error("the context of an attempt outlives it")
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestAnAttemptThatTookTooLongSaysSo(t *testing.T) {
	t.Parallel()
	canceled := status.FromContextError(context.Canceled).Err()
	refused := status.Error(codes.Unavailable, "down")
	for name, c := range map[string]struct {
		attempt func(ctx context.Context, record *attempt) error
		parent  time.Duration // after which the call is given up; 0 for never
		timeout bool
		want    error // what errors.Is finds
	}{
		"never sent": {
			attempt: func(ctx context.Context, record *attempt) error {
				<-ctx.Done()
				record.failed = &attemptError{raw: canceled}
				return record.failed
			},
			timeout: true, want: errAttemptOver,
		},
		"without a record": {
			attempt: func(ctx context.Context, _ *attempt) error { <-ctx.Done(); return canceled },
			timeout: true, want: errAttemptOver,
		},
		"answered all the same": {
			attempt: func(ctx context.Context, _ *attempt) error { <-ctx.Done(); return refused },
			want:    refused,
		},
		"refused in time": {
			attempt: func(context.Context, *attempt) error { return refused },
			want:    refused,
		},
		"cancelled in time by a server": {
			attempt: func(context.Context, *attempt) error { return canceled },
			want:    canceled,
		},
		"given up with the call": {
			attempt: func(ctx context.Context, _ *attempt) error { <-ctx.Done(); return canceled },
			parent:  time.Second, want: canceled,
		},
		"succeeded late": {
			attempt: func(ctx context.Context, _ *attempt) error { <-ctx.Done(); return nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.parent > 0 {
					time.AfterFunc(c.parent, cancel)
				}
				needs := attemptNeeds{patience: newPatience(2 * time.Second)}
				a := needs.begin(ctx)
				err := a.end(c.attempt(a, a))
				timeout, ok := errors.AsType[*reprise.AttemptTimeoutError](err)
				if !errors.Is(err, c.want) || ok != c.timeout {
					t.Fatalf("got %T: %v", err, err)
				}
				if ok && (timeout.Timeout != 2*time.Second || classify(err).read != retry || status.Code(err) != codes.DeadlineExceeded) {
					t.Errorf("classified as %q: %v", classify(err).name, err)
				}
			})
		})
	}
}

func TestPatienceThatIsSwitchedOffBoundsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &policy{settings: newSettings([]Option{WithAttemptTimeout(-1)}), cli: &clientv3.Client{}}
		p.patience = newPatience(p.attemptTimeout)
		for name, n := range p.needsOf(kind{txn: read}, true) {
			if n.patience != nil {
				t.Errorf("%s is bounded", name)
			}
		}
		a := attemptNeeds{patience: p.patience}.begin(t.Context())
		time.Sleep(time.Hour)
		if err := a.end(a.Err()); err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyAttemptsThatMayBeRepeatedAreBounded(t *testing.T) {
	t.Parallel()
	p := &policy{settings: newSettings(nil), patience: newPatience(time.Second), cli: &clientv3.Client{}}
	for _, k := range []kind{{txn: read}, {txn: blindWrite}, {txn: guardedWrite}} {
		short, long := p.needsOf(k, false), p.needsOf(k, true)
		for name, m := range methods {
			c := k.classOf(m)
			want := (c == read || c == idempotentWrite || c == guardedWrite) && !m.unhurried
			if got := long[name].patience != nil; got != want {
				t.Errorf("%s, a %v: bounded %v, want %v", name, c, got, want)
			}
			if short[name].patience != nil {
				t.Errorf("%s is bounded twice", name)
			}
		}
	}
}
