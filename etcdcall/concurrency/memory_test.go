package concurrency_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
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
