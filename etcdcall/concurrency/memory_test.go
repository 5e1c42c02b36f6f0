package concurrency_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestAMemoryOfLongAgoOrOfAnotherClusterIsNotUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore(0)
		cli := s.client(t.Context())
		m := concurrency.WithMemory(concurrency.NewMemory(cli, 0))
		asks := func(want ...string) {
			t.Helper()
			if _, err := concurrency.NewSTM(cli, addOne, m); err != nil {
				t.Fatal(err)
			}
			if got := told(s.requests()); !slices.Equal(got, want) {
				t.Errorf("it asked: %q, want %q", got, want)
			}
		}
		asks("read x", "commit")
		time.Sleep(time.Minute)
		asks("commit")
		time.Sleep(time.Minute + time.Nanosecond)
		asks("read x", "commit")
		asks("commit")
		if got := s.get("x"); got != "4" {
			t.Errorf("x is %s", got)
		}

		// Another cluster happens to have the same revisions.
		s.cluster = 2
		s.history[len(s.history)-1] = newFakeStore(0).history[0]
		if _, err := concurrency.NewSTM(cli, func(s concurrency.STM) error { s.Get("y"); return nil }, m); err != nil {
			t.Fatal(err)
		}
		s.requests()
		asks("read x", "commit")
		if got := s.get("x"); got != "1" {
			t.Errorf("x is %s", got)
		}
	})
}

func TestAnAnswerThatComesLateDoesNotReplaceANewerOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore(0)
		cli := s.client(t.Context())
		m := concurrency.WithMemory(concurrency.NewMemory(cli, 0))
		// A reader's answer is under way while a writer writes and is answered.
		s.takes(2 * time.Second)
		done := make(chan error)
		go func() {
			_, err := concurrency.NewSTM(cli, func(s concurrency.STM) error { s.Get("x"); return nil }, m)
			done <- err
		}()
		time.Sleep(1500 * time.Millisecond)
		s.takes(0)
		if _, err := concurrency.NewSTM(cli, addOne, m); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		s.requests()
		if _, err := concurrency.NewSTM(cli, addOne, m); err != nil {
			t.Fatal(err)
		}
		if got := told(s.requests()); !slices.Equal(got, []string{"commit"}) {
			t.Errorf("it asked: %q", got)
		}
	})
}

func TestAValueThatTheServerKeptIsNotRemembered(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]func(concurrency.STM){
		"not read before": func(s concurrency.STM) { s.Put("x", "", clientv3.WithIgnoreValue()) },
		"read before":     func(s concurrency.STM) { s.Get("x"); s.Put("x", "", clientv3.WithIgnoreValue()) },
	} {
		s := newFakeStore(0)
		cli := s.client(t.Context())
		m := concurrency.WithMemory(concurrency.NewMemory(cli, 0))
		for _, apply := range []func(concurrency.STM) error{addOne, func(s concurrency.STM) error { keep(s); return nil }} {
			if _, err := concurrency.NewSTM(cli, apply, m); err != nil {
				t.Fatal(err)
			}
		}
		s.requests()
		if _, err := concurrency.NewSTM(cli, addOne, m); err != nil {
			t.Fatal(err)
		}
		if got := told(s.requests()); !slices.Equal(got, []string{"read x", "commit"}) {
			t.Errorf("%s: it asked: %q", name, got)
		}
	}
}

// Two keys come and go together, and are looked at one by one.
func TestAnAbsenceIsNotRememberedForMomentsThatNobodySaw(t *testing.T) {
	t.Parallel()
	for name, seen := range map[string][]string{
		"once, when they had gone":   {"x", "a"},
		"before they came and after": {"a", "x", "a"},
	} {
		s := newFakeStore(0)
		cli := s.client(t.Context())
		m := concurrency.WithMemory(concurrency.NewMemory(cli, 0))
		run := func(apply func(s concurrency.STM), opts ...concurrency.STMOption) {
			t.Helper()
			if _, err := concurrency.NewSTM(cli, func(s concurrency.STM) error { apply(s); return nil }, opts...); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range seen {
			if key == "x" {
				s.set("a", "1", "x", "1")
			}
			run(func(s concurrency.STM) { s.Get(key) }, m)
			if key == "x" {
				run(func(s concurrency.STM) { s.Del("a"); s.Del("x") })
			}
		}
		run(func(s concurrency.STM) {
			if a, x := s.Get("a"), s.Get("x"); a != x {
				t.Errorf("%s: a is %q and x is %q", name, a, x)
			}
		}, m)
	}
}
