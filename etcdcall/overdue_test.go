package etcdcall

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/internal/patience"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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
				needs := &attemptNeeds{patience: patience.New(2 * time.Second)}
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
		p.patience = patience.New(p.attemptTimeout)
		for name, m := range methods {
			if n := p.needsOf(kind{txn: read}, m, true); n.patience != nil {
				t.Errorf("%s is bounded", name)
			}
		}
		needs := &attemptNeeds{patience: p.patience}
		a := needs.begin(t.Context())
		time.Sleep(time.Hour)
		if err := a.end(a.Err()); err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyAttemptsThatMayBeRepeatedAreBounded(t *testing.T) {
	t.Parallel()
	p := &policy{settings: newSettings(nil), patience: patience.New(time.Second), cli: &clientv3.Client{}}
	for _, k := range []kind{{txn: read}, {txn: blindWrite}, {txn: guardedWrite}} {
		for name, m := range methods {
			c := k.classOf(m)
			want := (c == read || c == idempotentWrite || c == guardedWrite) && !m.unhurried
			if got := p.needsOf(k, m, true).patience != nil; got != want {
				t.Errorf("%s, a %v: bounded %v, want %v", name, c, got, want)
			}
			if p.needsOf(k, m, false).patience != nil {
				t.Errorf("%s is bounded twice", name)
			}
		}
	}
}
