package gentest_test

import (
	"context"
	"math"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/internal/gen/gentest"
	"github.com/reprise-go/reprise/internal/gen/gentest/configured"
	"github.com/reprise-go/reprise/internal/gen/gentest/gentestreprise"
)

// answers is a stub that answers at once, without a network. What a call costs
// beyond it is what the generated code costs.
type answers struct {
	gentest.KindsClient
	response gentest.Response
	empty    emptypb.Empty
}

func (a *answers) Get(context.Context, *gentest.Request, ...grpc.CallOption) (*gentest.Response, error) {
	return &a.response, nil
}

func (a *answers) Add(context.Context, *gentest.Request, ...grpc.CallOption) (*gentest.Response, error) {
	return &a.response, nil
}

func (a *answers) Set(context.Context, *gentest.Request, ...grpc.CallOption) (*gentest.Response, error) {
	return &a.response, nil
}

func (a *answers) Forget(context.Context, *gentest.Request, ...grpc.CallOption) (*emptypb.Empty, error) {
	return &a.empty, nil
}

// policy is every option of a service config but a timeout and hedging, which
// cost what their documentation says.
var policy = []reprise.CallOption{
	reprise.WithRetry(func() reprise.Retryer { return reprise.OnUnavailable(reprise.Backoff{}) }),
	reprise.WithMaxAttempts(5),
	reprise.WithPushback(),
	reprise.WithThrottle(reprise.NewThrottle(100, 0.1)),
	reprise.WithGRPCOptions(grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(1<<20)),
}

func TestACallThatSucceedsCostsNoAllocation(t *testing.T) {
	stub := new(answers)
	ctx, req := t.Context(), new(gentest.Request)
	full := gentestreprise.NewKindsClient(stub, &gentestreprise.KindsCallOptions{Get: policy})
	recommended := gentestreprise.NewKindsClient(stub, nil)
	throttled := configured.NewKindsClient(stub, nil)
	var failed error
	note := func(err error) {
		if err != nil {
			failed = err
		}
	}
	for name, call := range map[string]func(){
		"every option":      func() { _, err := full.Get(ctx, req); note(err) },
		"recommended":       func() { _, err := recommended.Get(ctx, req); note(err) },
		"no policy":         func() { _, err := recommended.Add(ctx, req); note(err) },
		"throttle alone":    func() { _, err := throttled.Add(ctx, req); note(err) },
		"as a plain client": func() { _, err := full.AsKindsClient().Get(ctx, req); note(err) },
	} {
		// The raw stub allocates nothing, so any allocation is ours.
		if got := testing.AllocsPerRun(1000, call); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
	if failed != nil {
		t.Error(failed)
	}
	// The control: what is documented to allocate does.
	bounded := gentestreprise.NewKindsClient(stub, &gentestreprise.KindsCallOptions{
		Get: []reprise.CallOption{reprise.WithTimeout(1 << 40)},
	})
	if got := testing.AllocsPerRun(1000, func() { _, err := bounded.Get(ctx, req); note(err) }); got == 0 {
		t.Error("a call with a timeout seems to cost no allocation: the measurement is broken")
	}
}

// TestOverGRPCACallCostsNoAllocationMore compares with the raw stub over a
// connection, where the server and the transport allocate too: the figures are
// averages of many calls. The raw stub is given the gRPC options that the
// policy implies, since the transport pays for each; [reprise.WithPushback]
// implies the trailer, of which gRPC makes a copy, one allocation.
func TestOverGRPCACallCostsNoAllocationMore(t *testing.T) {
	stub := new(server).start(t)
	ctx, req := t.Context(), new(gentest.Request)
	var trailer metadata.MD
	for _, tt := range []struct {
		name    string
		options []reprise.CallOption
		raw     []grpc.CallOption
	}{
		{"no option", nil, nil},
		{"retry and throttle", []reprise.CallOption{policy[0], policy[1], policy[3]}, nil},
		{"every option", policy, []grpc.CallOption{
			grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(1 << 20), grpc.Trailer(&trailer),
		}},
	} {
		client := gentestreprise.NewKindsClient(stub, &gentestreprise.KindsCallOptions{Get: tt.options})
		raw := leastAllocs(t, func() error { _, err := stub.Get(ctx, req, tt.raw...); return err })
		ours := leastAllocs(t, func() error { _, err := client.Get(ctx, req); return err })
		if ours > raw+poolDrops {
			t.Errorf("%s: got %v allocations a call, the raw stub %v", tt.name, ours, raw)
		}
	}
}

// poolDrops is how many allocations a call may have more because sync.Pool, which
// keeps the places for trailers, drops entries at random under -race.
var poolDrops float64

// leastAllocs measures several times, since what other goroutines allocate
// counts too.
func leastAllocs(t *testing.T, call func() error) float64 {
	t.Helper()
	least := math.Inf(1)
	for range 5 {
		least = min(least, testing.AllocsPerRun(300, func() {
			if err := call(); err != nil {
				t.Error(err)
			}
		}))
	}
	return least
}

func BenchmarkUnary(b *testing.B) {
	stub := new(answers)
	ctx, req := b.Context(), new(gentest.Request)
	full := gentestreprise.NewKindsClient(stub, &gentestreprise.KindsCallOptions{Get: policy})
	plain := gentestreprise.NewKindsClient(stub, nil)
	var raw gentest.KindsClient = stub
	for _, bb := range []struct {
		name string
		call func() error
	}{
		{"raw stub", func() error { _, err := raw.Get(ctx, req); return err }},
		{"no policy", func() error { _, err := plain.Add(ctx, req); return err }},
		{"every option", func() error { _, err := full.Get(ctx, req); return err }},
		{"plain form", func() error { _, err := full.AsKindsClient().Get(ctx, req); return err }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bb.call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnaryOverGRPC(b *testing.B) {
	stub := new(server).start(b)
	ctx, req := b.Context(), new(gentest.Request)
	plain := gentestreprise.NewKindsClient(stub, &gentestreprise.KindsCallOptions{})
	full := gentestreprise.NewKindsClient(stub, &gentestreprise.KindsCallOptions{Get: policy})
	for _, bb := range []struct {
		name string
		call func() error
	}{
		{"raw stub", func() error { _, err := stub.Get(ctx, req); return err }},
		{"no policy", func() error { _, err := plain.Get(ctx, req); return err }},
		{"every option", func() error { _, err := full.Get(ctx, req); return err }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bb.call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
