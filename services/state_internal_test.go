package services

import (
	"testing"
	"testing/synctest"
)

// A start claims the machine before it has the lock. A stop that gets the lock
// in between has to wait for the outcome, not to give up.
func TestAStopBetweenTheClaimAndTheLockOfAStartWaits(t *testing.T) {
	for name, claimed := range map[string]state{"before": stateUnstarted, "after": stateStarting} {
		t.Run(name+" the state says so", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m StateMachine
				decided := make(chan struct{})
				m.start.Store(&decided)
				m.state.Store(int32(claimed))
				stopped := make(chan error, 1)
				go func() { stopped <- m.StopOnce("svc", func() error { return nil }) }()
				synctest.Wait()
				select {
				case err := <-stopped:
					t.Fatalf("did not wait: %v", err)
				default:
				}
				if err := m.StartOnce("svc", nil); err == nil || err.Error() != "svc has already been started once; state=Starting" {
					t.Errorf("a second start: %v", err)
				}
				m.state.Store(int32(stateStarted))
				close(decided)
				if err := <-stopped; err != nil || m.loadState() != stateStopped {
					t.Errorf("%v; state %s", err, m.State())
				}
			})
		})
	}
}

func TestAnUnknownStateNamesItself(t *testing.T) {
	t.Parallel()
	if got := state(42).String(); got != "unrecognized state: 42" {
		t.Error(got)
	}
}
