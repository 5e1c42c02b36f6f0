package reprise

import (
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"google.golang.org/grpc"
)

func resolved(opts ...CallOption) CallSettings {
	var cs CallSettings
	cs.apply(opts)
	return cs
}

func TestCallSettingsStaySmall(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(CallSettings{}); size > 80 {
		t.Errorf("CallSettings have %d bytes, more than 80", size)
	}
}

func TestGRPCOptionsAddUp(t *testing.T) {
	t.Parallel()
	send, recv := grpc.MaxCallSendMsgSize(1), grpc.MaxCallRecvMsgSize(2)
	cs := resolved(WithGRPCOptions(send), WithGRPCOptions(), WithGRPCOptions(recv, grpc.WaitForReady(true)))
	if len(cs.GRPC) != 3 || cs.GRPC[0] != send || cs.GRPC[1] != recv {
		t.Errorf("got %v: an option was dropped", cs.GRPC)
	}
}

func TestAppendingToGRPCOptionsHarmsNoOther(t *testing.T) {
	t.Parallel()
	given := make([]grpc.CallOption, 1, 8)
	given[0] = grpc.WaitForReady(true)
	option := WithGRPCOptions(given...)
	given[0] = nil // the option has its own copy
	one := WithGRPCOptions(grpc.MaxCallSendMsgSize(1))
	bound := resolved(option, one, one) // three: an append that grows leaves room
	if bound.GRPC[0] == nil {
		t.Error("the option follows its argument")
	}
	roomy := resolved(&foreign{grpc: make([]grpc.CallOption, 1, 8)})
	if len(roomy.GRPC) != 1 || cap(roomy.GRPC) != 1 {
		t.Errorf("a foreign option leaves %d options with the capacity for %d", len(roomy.GRPC), cap(roomy.GRPC))
	}
	a, b := append(bound.GRPC, grpc.MaxCallRecvMsgSize(1)), append(bound.GRPC, grpc.MaxCallRecvMsgSize(2)) //nolint:gocritic // that is the test
	if a[3] == b[3] {
		t.Error("two appends share their array")
	}
	var wg sync.WaitGroup // -race sees a shared array
	for i := range 4 {
		wg.Go(func() {
			for _, cs := range []CallSettings{resolved(option), bound} {
				own := append(cs.GRPC, grpc.MaxCallRecvMsgSize(i)) //nolint:gocritic // that is the test
				if own[len(own)-1] != grpc.MaxCallRecvMsgSize(i) {
					t.Error("another's option")
				}
			}
		})
	}
	wg.Wait()
}

// foreign is an option of another package.
type foreign struct {
	attempts int
	grpc     []grpc.CallOption
}

func (f *foreign) Resolve(cs *CallSettings) {
	cs.MaxAttempts, cs.GRPC = f.attempts, f.grpc
	WithMaxElapsed(time.Minute).Resolve(cs)
	WithTimeout(time.Hour).Resolve(cs)
}

func TestForeignOptionsAreApplied(t *testing.T) {
	t.Parallel()
	cs := resolved(WithMaxAttempts(2), &foreign{attempts: 7}, nil, WithTimeout(time.Second))
	if cs.MaxAttempts != 7 || cs.rare.maxElapsed != time.Minute || cs.Timeout != time.Second {
		t.Errorf("got %+v", cs)
	}
}

func TestOptionsAreOneOption(t *testing.T) {
	t.Parallel()
	list := []CallOption{WithMaxAttempts(3), nil, WithTimeout(time.Second)}
	policy := Options(list...)
	list[0] = WithMaxAttempts(9)
	cs := resolved(WithMaxAttempts(1), policy, WithTimeout(time.Minute))
	if cs.MaxAttempts != 3 || cs.Timeout != time.Minute {
		t.Errorf("got %+v", cs)
	}
	var direct CallSettings
	policy.Resolve(&direct)
	if direct.MaxAttempts != 3 {
		t.Errorf("got %+v", direct)
	}
}

func TestOverridesDoNotReachTheBoundSettings(t *testing.T) {
	t.Parallel()
	bound := resolved(WithMaxElapsed(time.Minute), WithAttemptTimeout(time.Second))
	own := bound
	own.apply([]CallOption{WithMaxElapsed(time.Hour)})
	if bound.rare.maxElapsed != time.Minute || own.rare.maxElapsed != time.Hour || own.rare.attemptTimeout != time.Second {
		t.Errorf("bound %+v, own %+v", bound.rare, own.rare)
	}
}

// Every built-in option resolves itself, so that a foreign option can be made
// of it, and apply knows all of their types.
func TestBuiltInOptionsResolveAlikeByInterfaceAndBySwitch(t *testing.T) {
	t.Parallel()
	for i, opt := range []CallOption{
		WithRetry(func() Retryer { return nil }), WithGRPCOptions(grpc.WaitForReady(true)), WithTimeout(1),
		WithMaxAttempts(2), WithThrottle(new(Throttle)), WithMaxElapsed(3), WithAttemptTimeout(4),
		WithPushback(), WithHedge(HedgePolicy{}), WithObserver(ObserverFunc(nil)), WithMethod("/m", "t"),
		Options(WithTimeout(5)), Recommended(),
	} {
		var byInterface CallSettings
		opt.Resolve(&byInterface)
		bySwitch := resolved(opt)
		for _, cs := range []*CallSettings{&byInterface, &bySwitch} {
			if cs.rare != nil { // pointers of their own, functions not comparable
				cs.rare.observer = nil
			}
		}
		a, b := byInterface, bySwitch
		if (a.Retry == nil) != (b.Retry == nil) || !slices.Equal(a.GRPC, b.GRPC) || a.Timeout != b.Timeout ||
			a.MaxAttempts != b.MaxAttempts || (a.rare == nil) != (b.rare == nil) || a.rare != nil && *a.rare != *b.rare {
			t.Errorf("option %d: %+v and %+v", i, a, b)
		}
	}
}
