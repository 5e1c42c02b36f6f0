package concurrency

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	v3 "go.etcd.io/etcd/client/v3"
)

// silent is a cluster that answers nothing.
type silent struct{ v3.KV }

func (silent) Get(ctx context.Context, _ string, _ ...v3.OpOption) (*v3.GetResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silent) Txn(ctx context.Context) v3.Txn { return silentTxn{ctx} }

type silentTxn struct {
	ctx context.Context //nolint:containedctx // as in clientv3's
}

func (s silentTxn) If(...v3.Cmp) v3.Txn  { return s }
func (s silentTxn) Then(...v3.Op) v3.Txn { return s }
func (s silentTxn) Else(...v3.Op) v3.Txn { return s }
func (s silentTxn) Commit() (*v3.TxnResponse, error) {
	<-s.ctx.Done()
	return nil, s.ctx.Err()
}

// TestWhoWaitsForAnotherCallGivesUpWithItsContext has a call go unanswered while
// the same object is called again.
func TestWhoWaitsForAnotherCallGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(s *Session) (first, second func(context.Context) error){
		"Barrier": func(s *Session) (first, second func(context.Context) error) {
			b := NewBarrier(s.client, "key")
			return b.Release, b.Hold
		},
		"DoubleBarrier": func(s *Session) (first, second func(context.Context) error) {
			b := NewDoubleBarrier(s, "key", 2)
			return b.Enter, b.Leave
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := sessionOn(t.Context(), nil, sessionOptions{})
				defer s.Orphan()
				s.client.KV = silent{}
				first, second := prepare(s)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				ended := make(chan error)
				go func() { ended <- first(ctx) }()
				synctest.Wait()

				const patience = time.Second
				own, giveUp := context.WithTimeout(t.Context(), patience)
				defer giveUp()
				began := time.Now()
				err := second(own)
				if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != patience {
					t.Errorf("%v after %v", err, took)
				}
				if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the other call: %v", err)
				}
			})
		})
	}
}

func TestAFreeTurnIsTakenThoughTheContextHasEnded(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	one := newTurns()
	for range 100 {
		if err := one.take(ended); err != nil {
			t.Fatal(err)
		}
		if err := one.take(ended); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		one.end()
	}
}
