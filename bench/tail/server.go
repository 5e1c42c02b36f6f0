package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
)

const (
	usual    = 10 * time.Millisecond
	slow     = 500 * time.Millisecond
	slowRate = 0.01
)

// server answers in the usual time, and in slowRate of the calls slowly.
type server struct {
	testpb.UnimplementedTestServiceServer

	requests atomic.Int64

	mu   sync.Mutex
	rand *rand.Rand
}

func newServer(seed uint64) *server {
	return &server{rand: rand.New(rand.NewPCG(seed, seed))}
}

func (s *server) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	s.requests.Add(1)
	if err := reprise.Sleep(ctx, s.time()); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return &testpb.Empty{}, nil
}

func (s *server) time() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rand.Float64() < slowRate {
		return slow
	}
	return usual
}
